"""Base of what travels between processes and is stored."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Frozen. Fields that a later release has added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Unpickle; replicas of the deploy before send records without the fields of this one."""
        super().__setstate__(state)
        for name, field in type(self).model_fields.items():
            if name not in self.__dict__:
                self.__dict__[name] = field.get_default(call_default_factory=True)

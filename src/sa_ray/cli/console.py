"""The terminal: standard error, so that output can be piped."""

from rich.console import Console

console = Console(stderr=True)


def service_address(text: str) -> str:
    """Return the URL of a service, which may be given without its scheme."""
    return text if "://" in text else f"http://{text}"

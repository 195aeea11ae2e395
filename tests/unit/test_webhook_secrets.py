"""Receivers' own secrets, sealed under the operator's."""

import base64

import pytest

from sa_ray.jobs.webhook_secrets import UnopenableError, WebhookSecrets

URL = "https://example.org/hook"


def secret(letter: str) -> str:
    return "whsec_" + base64.b64encode(letter.encode() * 32).decode()


OLD, NEW, OTHER = secret("o"), secret("n"), secret("x")
RECEIVERS = (secret("r"), secret("s"))


def test_what_is_sealed_shows_nothing_and_opens_again() -> None:
    operator = WebhookSecrets([OLD])

    sealed = operator.seal(URL, RECEIVERS)

    assert WebhookSecrets([OLD]).opened(URL, sealed) == RECEIVERS
    readable = sealed + base64.urlsafe_b64decode(sealed).decode("latin-1")
    for text in (*RECEIVERS, *(one.removeprefix("whsec_") for one in RECEIVERS), OLD):
        assert text not in readable
    assert operator.seal(URL, RECEIVERS) != sealed


def test_a_new_secret_beside_the_old_one_opens_what_either_sealed() -> None:
    before = WebhookSecrets([OLD]).seal(URL, RECEIVERS)
    both = WebhookSecrets([NEW, OLD])

    assert both.opened(URL, before) == RECEIVERS
    assert WebhookSecrets([NEW]).opened(URL, both.seal(URL, RECEIVERS)) == RECEIVERS


@pytest.mark.parametrize("sealed", ["", "no token", "gAAAAA=="])
def test_what_nobody_sealed_is_not_opened(sealed: str) -> None:
    with pytest.raises(UnopenableError):
        WebhookSecrets([OLD]).opened(URL, sealed)


def test_another_operators_secret_opens_nothing() -> None:
    sealed = WebhookSecrets([OLD]).seal(URL, RECEIVERS)

    with pytest.raises(UnopenableError):
        WebhookSecrets([NEW, OTHER]).opened(URL, sealed)


def test_a_secret_is_not_opened_for_another_address() -> None:
    operator = WebhookSecrets([OLD])
    sealed = operator.seal(URL, RECEIVERS)

    with pytest.raises(UnopenableError):
        operator.opened("https://example.com/hook", sealed)


def test_a_digest_tells_secrets_apart_while_the_operator_changes_over() -> None:
    operator = WebhookSecrets([OLD])

    assert operator.digest(RECEIVERS) == WebhookSecrets([NEW, OLD]).digest(RECEIVERS)
    assert operator.digest(RECEIVERS) != operator.digest(RECEIVERS[:1])
    assert operator.digest(RECEIVERS) != WebhookSecrets([OTHER]).digest(RECEIVERS)

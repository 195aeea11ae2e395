"""Addresses that a webhook can have, and those that can never be called."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa_ray.jobs.webhook_urls import host_name, webhook_url


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com/hook?a=b#c", "example.com"),
        ("http://user:password@example.com:8080", "example.com"),
        ("http://EXAMPLE.com.:80/", "example.com"),
        ("http://localhost./", "localhost"),
        ("http://[::1]:9/", "::1"),
        ("http://10.0.0.1/", "10.0.0.1"),
        ("http://with_underscore.example.com/", "with_underscore.example.com"),
        ("http://m\u00fcnchen.de/", "xn--mnchen-3ya.de"),
        ("http://xn--mnchen-3ya.de/", "xn--mnchen-3ya.de"),
        ("http://" + "a" * 63 + ".com/", "a" * 63 + ".com"),
        ("https://example.com/a%20b", "example.com"),
    ],
)
def test_an_address_of_a_host_is_read(url: str, host: str) -> None:
    assert host_name(webhook_url(url)) == host


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://" + ".".join(["a" * 60] * 5) + "/", "253"),
        ("http://" + "a" * 64 + ".com/", "63"),
        ("http://example..com/", "two dots"),
        ("http://.example.com/", "two dots"),
        ("http://example.com../", "two dots"),
        ("http://./", "two dots"),
        ("http://xn--zzzzzzzzzzz/", "punycode"),
        ("http://xn--a.com/", "punycode"),
        ("http://xn--/", "punycode"),
        ("http://exa\\mple.com/", "percent-encode"),
        ("http://example.com/\x7f", "percent-encode"),
        ("http://example.com/\x01", "percent-encode"),
        ("http://example.com/\x85", "percent-encode"),
        ("http://example.com/a b", "percent-encode"),
        ("http://example.com:/", "port"),
        ("http://example.com:0/", "port"),
        ("http://example.com:70000/", "port"),
        ("http://exa%6Dple.com/", "no host name can have"),
        ("http://exam!ple.com/", "no host name can have"),
        ("http:///hook", "absolute"),
        ("ftp://example.com/", "absolute"),
        ("/hook", "absolute"),
        ("http://[::1/", "not a URL"),
        ("http://[fe80::1%25eth0]/", "interface"),
        ("http://\ud800.com/", "not a URL"),
        ("http://example.com/\udfff", "not a URL"),
        ("http://" + "\u00fc" * 64 + ".de/", "not a URL"),
        ("http://xn--" + "a" * 60 + ".com/", "63"),
        ("http://\u3002\u3002.com/", "not a URL"),
        ("http://\ufeff.com/", "not a URL"),
        ("http://a\u200d.com/", "not a URL"),
    ],
)
def test_an_address_that_can_never_be_called_is_refused_with_the_reason(
    url: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        webhook_url(url)


HOSTS = st.lists(
    st.one_of(
        st.text(max_size=70),
        st.text(alphabet="xn-0123456789abz\u00fc\u3002.%:[]@\ud800", max_size=70),
        st.text(alphabet="abz019-", max_size=62).map("xn--".__add__),
    ),
    max_size=5,
).map(".".join)


@given(host=HOSTS)
def test_whatever_is_accepted_can_be_looked_up(host: str) -> None:
    """The resolver of Python raises ``UnicodeError`` for names that its codec cannot encode."""
    with contextlib.suppress(ValueError):
        name = host_name(webhook_url(f"http://{host}/"))
        assert name.encode("idna")

"""Another site's page cannot use this one, whatever it sends; programs, links and the page itself can."""

import http.client
import json
from urllib.parse import urlparse

import pytest
from serving import served
from starlette.datastructures import Headers

from headswap.ui.app import same_origin

HERE = "school.local:7860"


def refused(method="POST", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return same_origin.is_cross_origin(method, Headers({"host": HERE, **named}))


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://evil.example:7860",
        "http://school.local",
        "http://school.local:7861",
        "http://school.local:7860.evil.example",
        "http://school.local@evil.example:7860",
        "null",
        "",
        "http://[",
        "file://",
    ],
)
def test_another_origin_is_foreign(origin):
    assert refused(origin=origin)
    assert refused("GET", origin=origin)


def test_the_pages_own_origin_is_not():
    assert not refused(origin="http://school.local:7860")
    assert not refused(origin="http://SCHOOL.local:7860")
    assert not refused(origin="https://x.hf.space", host="x.hf.space")
    assert not refused(origin="https://x.hf.space", host="x.hf.space:443")
    assert not refused(origin="http://[::1]:7860", host="[::1]:7860")


def test_a_program_names_no_origin():
    assert not refused()


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_itself_calls_foreign_is(site):
    assert refused(sec_fetch_site=site, sec_fetch_mode="no-cors")
    assert refused("GET", sec_fetch_site=site, sec_fetch_mode="no-cors")
    assert refused(sec_fetch_site=site, sec_fetch_mode="navigate")  # a form that is sent from elsewhere
    assert not refused("GET", sec_fetch_site=site, sec_fetch_mode="navigate")  # a link, or the frame of a Space


def test_a_proxy_that_hides_the_host_does_no_harm():
    assert not refused(origin="https://school.example", sec_fetch_site="same-origin")


def test_whoever_runs_the_page_admits_others_by_name(monkeypatch):
    monkeypatch.setenv("HEADSWAP_ORIGINS", "https://school.example/, https://b.example,null,*")
    assert not refused(origin="https://school.example", sec_fetch_site="cross-site", sec_fetch_mode="cors")
    assert not refused(origin="https://b.example")
    assert refused(origin="https://evil.example")
    assert refused(origin="null")
    monkeypatch.setenv("SPACE_HOST", "me-leaves.hf.space")
    assert not refused(origin="https://me-leaves.hf.space")


@pytest.fixture(scope="module")
def ask(built):
    """Asks the page as it is launched, under a name that is not localhost."""
    with served(built) as (_, address, _):
        place = urlparse(address)

        def send(method, path, body=None, **headers):
            connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            named = {"Host": f"school.local:{place.port}", "Content-Type": "application/json"} | named
            connection.request(method, path, json.dumps(body) if body else None, named)
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace")
            connection.close()
            return answer.status, said, answer

        send.origin = f"http://school.local:{place.port}"
        yield send


def test_a_real_request_of_another_site_is_refused(ask):
    call = "/gradio_api/call/forget", {"data": ["ticket"]}
    status, said, _ = ask("POST", *call, Origin="https://evil.example")
    assert status == 403 and "other sites" in said
    for headers in ({}, {"Origin": ask.origin}):
        status, said, _ = ask("POST", *call, **headers)
        assert status == 200 and "event_id" in said
    assert ask("GET", "/config", Origin="https://evil.example")[0] == 403
    assert ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200
    assert ask("GET", "/config", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403

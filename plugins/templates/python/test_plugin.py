"""The decisions, in Python alone: no Wasm and no gateway. Run with `python3 build.py test`."""

import unittest
from unittest import mock

from componentize_py_types import Err
from plugin import Channel
from wit_world.exports.channel import Answer_Decline, Answer_Refuse, Answer_Send, ChannelConfig
from wit_world.imports import log
from wit_world.imports.types import (
    BodyEdit_SetIfAbsent,
    Caller,
    Credential,
    HeaderEdit_Remove,
    HeaderEdit_Set,
    Placement_Authorization,
    Plan,
    Presented_Authorization,
    Refusal,
    Request,
    Reuse,
    Transport,
)

CALLER = Caller("alice", [])


def configured(settings):
    """Configures with these settings; gives the profile, and what was logged."""
    # The generated function works only within the gateway.
    with mock.patch.object(log, "log") as logged:
        profile = Channel().configure(ChannelConfig("c", "C", settings, [], ["key"], []))
    return profile, logged.call_args_list


def decide(asked):
    """As in the gateway, where each call has an object of its own."""
    return Channel().decide(asked, CALLER)


def request(**changes):
    """A request as the gateway describes it."""
    usual = {
        "transport": Transport.HTTP,
        "method": "POST",
        "path": "/v1/chat/completions",
        "query": None,
        "presented": Presented_Authorization("bearer"),
        "headers": [],
        "model": "small",
        "streaming": False,
        "body": [],
    }
    return Request(**(usual | changes))


class Decisions(unittest.TestCase):
    def test_an_empty_configuration_serves_everything_under_v1(self):
        profile, logged = configured("")
        self.assertEqual(logged, [mock.call(log.Level.INFO, "serving under /v1")])
        self.assertEqual(profile.headers, ["x-tenant"])
        self.assertTrue(profile.reads_model)
        self.assertEqual(profile.reuse, Reuse.SAME_CALLER)
        self.assertEqual([meter.name for meter in profile.meters[0]], ["input", "output"])

    def test_a_request_is_sent_with_the_callers_name_and_the_channels_key(self):
        configured('{"prefix": "/api/", "_note": 1}')
        plan = Plan(
            endpoint=None,
            path="/api/chat/completions",
            query="a=1&b",
            headers=[HeaderEdit_Set(("x-client", "alice")), HeaderEdit_Remove("x-tenant")],
            body=[BodyEdit_SetIfAbsent(("/user", '"alice"'))],
            credentials=[Credential("key", Placement_Authorization("Bearer"))],
            model=None,
            meters=0,
            options=[],
        )
        self.assertEqual(decide(request(query="a=1&b")), Answer_Send(plan))

    def test_the_first_tenant_becomes_the_organization(self):
        configured("{}")
        answer = decide(request(headers=[("x-tenant", "one"), ("x-tenant", "two")]))
        self.assertEqual(answer.value.headers[-1], HeaderEdit_Set(("x-organization", "one")))
        self.assertEqual(len(answer.value.headers), 3)

    def test_a_body_is_edited_only_where_there_is_one_with_a_model(self):
        configured("{}")
        self.assertEqual(decide(request(method="GET")).value.body, [])
        self.assertEqual(decide(request(model=None)).value.body, [])

    def test_a_path_outside_v1_is_declined(self):
        configured("{}")
        for path in ("/", "/v1", "/v10/models", "/other/v1/models"):
            with self.subTest(path):
                self.assertEqual(decide(request(path=path)), Answer_Decline())

    def test_a_model_that_is_not_listed_is_refused(self):
        configured('{"models": ["small", "large"]}')
        refusal = Refusal(404, "model_not_found", "the model `huge` is not served by this channel")
        self.assertEqual(decide(request(model="huge")), Answer_Refuse(refusal))
        self.assertIsInstance(decide(request()), Answer_Send)
        self.assertIsInstance(decide(request(model=None)), Answer_Send)

    def test_wrong_settings_are_refused_by_name(self):
        wrong = {
            "{": "settings: expected JSON",
            "[]": "settings: expected an object",
            '{"prefx": "/v1"}': "settings: unknown setting `prefx` (known: prefix, models)",
            '{"prefix": 1}': "settings.prefix: expected a string",
            '{"prefix": null}': "settings.prefix: expected a string",
            '{"prefix": "v1"}': "settings.prefix: must begin with `/` and hold no white space",
            '{"prefix": "/v 1"}': "settings.prefix: must begin with `/` and hold no white space",
            '{"models": "small"}': "settings.models: expected a list of strings",
            '{"models": [1]}': "settings.models: expected a list of strings",
            '{"models": null}': "settings.models: expected a list of strings",
        }
        for settings, message in wrong.items():
            with self.subTest(settings), self.assertRaises(Err) as raised:
                configured(settings)
            self.assertEqual(raised.exception.value, message)


if __name__ == "__main__":
    unittest.main()

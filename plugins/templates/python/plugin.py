"""What this plugin decides. Plain data in, plain data out: the gateway does the rest.

`wit_world` is generated from wit/plugin.wit, and so are its types; the build puts a copy into build/bindings for
editors and for the tests.
"""

import json
import string
from dataclasses import dataclass

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.channel import Answer, Answer_Decline, Answer_Refuse, Answer_Send, ChannelConfig
from wit_world.imports import log
from wit_world.imports.log import Level
from wit_world.imports.types import (
    BodyEdit_SetIfAbsent,
    Caller,
    Credential,
    Fold,
    HeaderEdit_Remove,
    HeaderEdit_Set,
    Meter,
    Placement_Authorization,
    Plan,
    Profile,
    Refusal,
    Request,
    Reuse,
)

KNOWN = ("prefix", "models")


@dataclass
class Settings:
    prefix: str
    models: list[str] | None


# What `configure` read: an instance of the component serves one channel. Of `Channel` there is a new object for each call,
# which keeps nothing.
settings = Settings("/v1", None)


class Channel(exports.Channel):
    def configure(self, channel: ChannelConfig) -> Profile:
        """Called once, first. An `Err` refuses this version of the plugin with its message."""
        global settings
        settings = read_settings(channel.settings)
        log.log(Level.INFO, f"serving under {settings.prefix}")
        return Profile(
            # The gateway shows the headers that are named here, and no others.
            headers=["x-tenant"],
            reads_model=True,
            body=[],
            socket_model=[],
            meters=[
                [
                    meter("input", "/usage/prompt_tokens", "/usage/input_tokens"),
                    meter("output", "/usage/completion_tokens", "/usage/output_tokens"),
                ]
            ],
            # `decide` depends on its arguments alone, the caller's id among them.
            reuse=Reuse.SAME_CALLER,
        )

    def decide(self, request: Request, caller: Caller) -> Answer:
        """Called for every request on the channel, but for those whose answer is reused."""
        if not request.path.startswith("/v1/"):
            return Answer_Decline()
        model, models = request.model, settings.models
        if model is not None and models is not None and model not in models:
            message = f"the model `{model}` is not served by this channel"
            return Answer_Refuse(Refusal(404, "model_not_found", message))

        headers = [HeaderEdit_Set(("x-client", caller.id)), HeaderEdit_Remove("x-tenant")]
        tenants = [value for name, value in request.headers if name == "x-tenant"]
        if tenants:
            headers.append(HeaderEdit_Set(("x-organization", tenants[0])))

        body = []
        # The model stands in a JSON body, or in a form: that the gateway refuses to edit, with 415.
        if request.method == "POST" and model is not None:
            body.append(BodyEdit_SetIfAbsent(("/user", json.dumps(caller.id))))

        return Answer_Send(
            Plan(
                endpoint=None,
                path=settings.prefix.rstrip("/") + request.path.removeprefix("/v1"),
                query=request.query,
                headers=headers,
                body=body,
                # The gateway puts the channel's key there; the plugin never sees it.
                credentials=[Credential("key", Placement_Authorization("Bearer"))],
                model=None,
                meters=0,
                options=[],
            )
        )


def meter(name: str, *pointers: str) -> Meter:
    return Meter(name, [[pointer] for pointer in pointers], Fold.LAST, None)


def read_settings(text: str) -> Settings:
    try:
        given = json.loads(text or "{}")
    except ValueError:
        raise Err("settings: expected JSON") from None
    if not isinstance(given, dict):
        raise Err("settings: expected an object")
    for name in given:
        # Names that begin with `_` are comments.
        if not name.startswith("_") and name not in KNOWN:
            raise Err(f"settings: unknown setting `{name}` (known: {', '.join(KNOWN)})")
    prefix = given.get("prefix", "/v1")
    if not isinstance(prefix, str):
        raise Err("settings.prefix: expected a string")
    if not prefix.startswith("/") or any(c in string.whitespace for c in prefix):
        raise Err("settings.prefix: must begin with `/` and hold no white space")
    models = given.get("models", [])
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise Err("settings.models: expected a list of strings")
    return Settings(prefix, given.get("models"))

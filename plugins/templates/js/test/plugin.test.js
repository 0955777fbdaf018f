// The decisions, in Node alone: no Wasm and no gateway.
import assert from "node:assert/strict";
import { test } from "node:test";

import { configure, decide } from "../src/plugin.js";

const CALLER = { id: "alice", tags: [] };

/** Configures with these settings; gives the profile and what was logged. */
function configured(settings) {
  const lines = [];
  const config = { id: "c", name: "C", settings, endpoints: [], secrets: ["key"], options: [] };
  return { profile: configure(config, (line) => lines.push(line)), lines };
}

/** A request as the gateway describes it. */
function request(changes = {}) {
  return {
    transport: "http",
    method: "POST",
    path: "/v1/chat/completions",
    query: null,
    presented: { tag: "authorization", val: "bearer" },
    headers: [],
    model: "small",
    streaming: false,
    body: [],
    ...changes,
  };
}

test("an empty configuration serves everything under /v1", () => {
  const { profile, lines } = configured("");
  assert.deepEqual(lines, ["serving under /v1"]);
  assert.deepEqual(profile.headers, ["x-tenant"]);
  assert.equal(profile.readsModel, true);
  assert.equal(profile.reuse, "same-caller");
  assert.deepEqual(
    profile.meters[0].map(({ name }) => name),
    ["input", "output"],
  );
});

test("a request is sent with the caller's name and the channel's key", () => {
  configured('{"prefix": "/api/", "_note": 1}');
  assert.deepEqual(decide(request({ query: "a=1&b" }), CALLER), {
    tag: "send",
    val: {
      endpoint: null,
      path: "/api/chat/completions",
      query: "a=1&b",
      headers: [
        { tag: "set", val: ["x-client", "alice"] },
        { tag: "remove", val: "x-tenant" },
      ],
      body: [{ tag: "set-if-absent", val: ["/user", '"alice"'] }],
      credentials: [{ secret: "key", place: { tag: "authorization", val: "Bearer" } }],
      model: null,
      meters: 0,
      options: [],
    },
  });
});

test("the first tenant becomes the organization", () => {
  configured("{}");
  const headers = [
    ["x-tenant", "one"],
    ["x-tenant", "two"],
  ];
  assert.deepEqual(decide(request({ headers }), CALLER).val.headers, [
    { tag: "set", val: ["x-client", "alice"] },
    { tag: "remove", val: "x-tenant" },
    { tag: "set", val: ["x-organization", "one"] },
  ]);
});

test("a body is edited only where there is one with a model", () => {
  configured("{}");
  assert.deepEqual(decide(request({ method: "GET" }), CALLER).val.body, []);
  assert.deepEqual(decide(request({ model: null }), CALLER).val.body, []);
});

test("a path outside /v1 is declined", () => {
  configured("{}");
  for (const path of ["/", "/v1", "/v10/models", "/other/v1/models"]) {
    assert.deepEqual(decide(request({ path }), CALLER), { tag: "decline" }, path);
  }
});

test("a model that is not listed is refused", () => {
  configured('{"models": ["small", "large"]}');
  assert.deepEqual(decide(request({ model: "huge" }), CALLER), {
    tag: "refuse",
    val: { status: 404, code: "model_not_found", message: "the model `huge` is not served by this channel" },
  });
  assert.equal(decide(request(), CALLER).tag, "send");
  assert.equal(decide(request({ model: null }), CALLER).tag, "send");
});

test("wrong settings are refused by name", () => {
  const wrong = {
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
  };
  for (const [settings, message] of Object.entries(wrong)) {
    assert.throws(() => configured(settings), (thrown) => thrown === message, settings);
  }
});

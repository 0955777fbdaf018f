// What this plugin decides. Plain data in, plain data out: the gateway does the rest.
//
// The shapes of the data are those of wit/plugin.wit, with names in camelCase, variants as {tag, val}, and null for an
// option that is none.

const KNOWN = ["prefix", "models"];

/** What `configure` read; one instance serves one channel. */
let settings;

/**
 * Called once, first. Throwing a string refuses this version of the plugin with that message.
 * `info` writes a line to the gateway's log.
 */
export function configure(config, info) {
  settings = readSettings(config.settings);
  info(`serving under ${settings.prefix}`);
  const meter = (name, ...pointers) => ({
    name,
    alternatives: pointers.map((pointer) => [pointer]),
    fold: "last",
    group: null,
  });
  return {
    // The gateway shows the headers that are named here, and no others.
    headers: ["x-tenant"],
    readsModel: true,
    body: [],
    socketModel: [],
    meters: [
      [
        meter("input", "/usage/prompt_tokens", "/usage/input_tokens"),
        meter("output", "/usage/completion_tokens", "/usage/output_tokens"),
      ],
    ],
    // `decide` depends on its arguments alone, the caller's id among them.
    reuse: "same-caller",
  };
}

/** Called for every request on the channel, but for those whose answer is reused. */
export function decide(request, caller) {
  if (!request.path.startsWith("/v1/")) {
    return { tag: "decline" };
  }
  const { model } = request;
  if (model !== null && settings.models !== null && !settings.models.includes(model)) {
    const message = `the model \`${model}\` is not served by this channel`;
    return { tag: "refuse", val: { status: 404, code: "model_not_found", message } };
  }

  const headers = [
    { tag: "set", val: ["x-client", caller.id] },
    { tag: "remove", val: "x-tenant" },
  ];
  const tenant = request.headers.find(([name]) => name === "x-tenant");
  if (tenant !== undefined) {
    headers.push({ tag: "set", val: ["x-organization", tenant[1]] });
  }

  const body = [];
  // The model stands in a JSON body, or in a form: that the gateway refuses to edit, with 415.
  if (request.method === "POST" && model !== null) {
    body.push({ tag: "set-if-absent", val: ["/user", JSON.stringify(caller.id)] });
  }

  const plan = {
    endpoint: null,
    path: settings.prefix.replace(/\/+$/, "") + request.path.slice("/v1".length),
    query: request.query,
    headers,
    body,
    // The gateway puts the channel's key there; the plugin never sees it.
    credentials: [{ secret: "key", place: { tag: "authorization", val: "Bearer" } }],
    model: null,
    meters: 0,
    options: [],
  };
  return { tag: "send", val: plan };
}

function readSettings(text) {
  let given;
  try {
    given = JSON.parse(text === "" ? "{}" : text);
  } catch {
    throw "settings: expected JSON";
  }
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw "settings: expected an object";
  }
  // Names that begin with `_` are comments.
  const unknown = Object.keys(given).find((name) => !name.startsWith("_") && !KNOWN.includes(name));
  if (unknown !== undefined) {
    throw `settings: unknown setting \`${unknown}\` (known: ${KNOWN.join(", ")})`;
  }
  const { prefix = "/v1", models = null } = given;
  if (typeof prefix !== "string") {
    throw "settings.prefix: expected a string";
  }
  if (!prefix.startsWith("/") || /[ \t\n\v\f\r]/.test(prefix)) {
    throw "settings.prefix: must begin with `/` and hold no white space";
  }
  if ("models" in given && !(Array.isArray(models) && models.every((model) => typeof model === "string"))) {
    throw "settings.models: expected a list of strings";
  }
  return { prefix, models };
}

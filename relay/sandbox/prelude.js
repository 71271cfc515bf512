// What stands around a transformation: the text of a webhook goes in, the text of an answer comes out. What it needs of
// the language is taken before the transformation can change it.
((parse, stringify) => {
  const silent = () => {};
  globalThis.console = { log: silent, info: silent, warn: silent, error: silent, debug: silent };
  const relay = (transform, text) => {
    const webhook = parse(text), before = stringify(webhook.payload), given = transform(webhook);
    if (given === null || typeof given !== "object") throw "transform must return an object: the webhook.";
    if (typeof given.then === "function") throw "transform must not be async.";
    const { method, url, headers, payload, cancel } = given;
    return stringify({ method, url, headers, payload: stringify(payload) === before ? undefined : payload, cancel });
  };
  return relay;
})(JSON.parse, JSON.stringify)

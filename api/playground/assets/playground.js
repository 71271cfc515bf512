// Starts GraphiQL on Relay's own /graphql. What is typed, the API key included, stays in this browser tab.
"use strict";
(() => {
  const KEY = "relay:api-key";
  const start = JSON.parse(document.getElementById("start").textContent);
  const keyField = document.getElementById("key");
  const hint = document.getElementById("hint");
  const root = ReactDOM.createRoot(document.getElementById("editor"));

  const key = () => keyField.value.trim();

  // Shows what the key does, or that the server did not take it.
  function showKey(refused) {
    const missing = start.authEnabled && !key();
    keyField.setAttribute("aria-invalid", String(refused || missing));
    hint.classList.toggle("warn", refused || missing);
    if (refused) hint.textContent = "The server did not accept this key.";
    else if (missing) hint.textContent = "Needed: paste a key made by relay apikey create.";
    else if (key()) hint.textContent = "Sent as X-API-Key; kept in this tab only.";
    else hint.textContent = "Not needed: AUTH_ENABLED is false.";
  }

  // A new function for each key makes GraphiQL read the schema again.
  const newFetcher = () => async (request, options) => {
    // Just after a change of tabs GraphiQL still names the operation of the tab before.
    const { operationName, ...rest } = request;
    const asked = operationName && rest.query.includes(operationName) ? request : rest;
    const headers = { "Content-Type": "application/json", Accept: "application/json" };
    if (key()) headers["X-API-Key"] = key();
    const answer = await fetch("graphql", {
      method: "POST",
      headers: { ...headers, ...options?.headers },
      body: JSON.stringify(asked),
      credentials: "same-origin",
    });
    showKey(answer.status === 401);
    const text = await answer.text();
    try {
      return JSON.parse(text);
    } catch {
      return { errors: [{ message: `HTTP ${answer.status}: the answer is no JSON.` }], data: null, answer: text };
    }
  };

  // GraphiQL fills the editor from two entries of its storage, and opens one tab more when they are no tab's. It writes
  // them at once and the tabs half a second later: before it starts they are made to say what the open tab does.
  function seedEditor() {
    const kept = JSON.parse(sessionStorage.getItem("graphiql:tabState"));
    const open = kept ? kept.tabs[kept.activeTabIndex] : start.tabs[0];
    sessionStorage.setItem("graphiql:query", open.query ?? "");
    sessionStorage.setItem("graphiql:variables", open.variables ?? "");
  }

  function render() {
    const props = {
      fetcher: newFetcher(),
      defaultTabs: start.tabs,
      defaultEditorToolsVisibility: "variables",
      isHeadersEditorEnabled: true,
      shouldPersistHeaders: false,
      showPersistHeadersSettings: false,
      storage: sessionStorage,
    };
    // Without a key there is no schema to read: null keeps GraphiQL from asking, undefined makes it ask.
    props.schema = start.authEnabled && !key() ? null : undefined;
    root.render(React.createElement(GraphiQL, props));
  }

  keyField.value = sessionStorage.getItem(KEY) ?? "";
  keyField.addEventListener("change", () => {
    if (key()) sessionStorage.setItem(KEY, key());
    else sessionStorage.removeItem(KEY);
    showKey(false);
    render();
  });
  seedEditor();
  showKey(false);
  render();
})();

// A console that keeps what is written: up to 100 lines of 1000 characters, 16384 in all. Called, it shows them as JSON.
((stringify, keep, push) => {
  const lines = [];
  let room = 16384;
  const shown = (part) => {
    if (typeof part === "string") return part;
    try {
      return stringify(part) ?? keep(part);
    } catch (_) {
      return "[cannot be shown]";
    }
  };
  const log = (...parts) => {
    if (lines.length >= 100 || room <= 0) return;
    const line = parts.map(shown).join(" ").slice(0, room < 1000 ? room : 1000);
    room -= line.length;
    push(lines, line);
  };
  globalThis.console = { log, info: log, warn: log, error: log, debug: log };
  return () => stringify(lines);
})(JSON.stringify, String, Function.prototype.call.bind(Array.prototype.push))

"""What was tried against the sandbox, each a whole transformation: none may hurt anybody but its own delivery."""

from __future__ import annotations

#: By name: code whose call ends in no answer.
ENDLESS = {
    "loop": "while (true) {}",
    "loop in a call": "function transform(w) { for (;;) {} }",
    "regex": "/^(a+)+$/.test('a'.repeat(40) + 'b')",
    "search": "for (;;) 'a'.repeat(4e6).indexOf('a'.repeat(2e6) + 'b')",
    "split": "let s = 'a'.repeat(1e6); for (;;) s = s.split('a').join('a')",
    "includes": "const a = new Array(1e6).fill(1); for (;;) a.includes(2)",
    "stringify": "const o = {}; for (let i = 0; i < 1e5; i++) o['k' + i] = i; for (;;) JSON.stringify(o)",
    "bigint": "for (;;) (1n << 1000000n).toString()",
    "getter": "function transform(w) { return { get url() { for (;;) {} } } }",
    "promise": "const again = () => Promise.resolve().then(again); again(); for (;;) {}",
}
GREEDY = {
    "array": "new Array(5e8).fill(1)",
    "strings": "const q = []; for (;;) q.push('x'.repeat(100000) + q.length)",
    "buffer": "const b = []; for (;;) b.push(new ArrayBuffer(1 << 24))",
    "doubling": "let s = 'x'; for (;;) s += s",
}
DEEP = {
    "recursion": "function transform(w) { return transform(w) }",
    "nesting": "function transform(w) { let a = []; for (let i = 0; i < 200000; i++) a = [a]; w.payload = a; return w }",
    "parsing": "JSON.parse('['.repeat(200000) + ']'.repeat(200000))",
}
CURIOUS = {
    "module os": "import('os'); import * as os from 'os'; function transform(w) { return w }",
    "wait": "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1e9)",
    "big answer": "function transform(w) { w.payload = 'x'.repeat(2e7); return w }",
    "odd answer": "JSON.stringify = () => '{'; function transform(w) { throw { get message() { throw 1 } } }",
}
ALL = {**ENDLESS, **GREEDY, **DEEP, **CURIOUS}
#: What a program could reach the world with; none of it is there.
NAMES = (
    "os", "std", "require", "process", "fetch", "XMLHttpRequest", "WebSocket", "setTimeout", "setInterval", "Deno", "Bun",
    "scriptArgs", "print", "load", "Worker", "WebAssembly", "navigator", "bjson",
)  # fmt: skip

import { assert } from "@std/assert";
import { isLoopback } from "../../lib/io/http_fetch.ts";

Deno.test("isLoopback goes by the name alone", () => {
  for (const host of ["localhost", "LOCALHOST:5000", "127.0.0.1", "127.1.2.3:80", "[::1]:5000"]) {
    assert(isLoopback(host), host);
  }
  const others = ["localhost.example.com", "127.0.0.1.example.com", "127.0.0", "128.0.0.1:5000"];
  for (const host of [...others, "[::2]:5000", "registry.example.com", "10.0.0.1"]) {
    assert(!isLoopback(host), host);
  }
});

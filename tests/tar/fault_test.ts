import { assert, assertEquals } from "@std/assert";
import { limitFault, quoted } from "../../lib/tar/fault.ts";
import { paxHeader, rawEntry, rawHeader, rawTar } from "./raw.ts";
import { faultOf } from "./read.ts";

Deno.test("TarIndexer names the tar, the path and the offset, and shows no control characters", () => {
  const error = faultOf(rawTar(rawEntry({}, "x"), rawHeader({ name: "a\x1b[2J", uid: "bad" })));
  assertEquals(
    error.message,
    'test.tar: "a\\x1b[2J" at offset 1024: its header field uid is not a number: ' +
      '"bad\\x00\\x00\\x00\\x00\\x00"',
  );
  const long = faultOf(rawTar(paxHeader([["path", "y".repeat(5000)]]), rawHeader({ uid: "bad" })));
  assert(long.message.length < 700, "long names are cut in messages");
});

Deno.test("limitFault says what was found and what is allowed, in the message and in its data", () => {
  const place = { tarName: "t", headerOffset: 512, path: "" };
  const error = limitFault(place, "its size", "fileSizeBytes", 11, 10);
  assertEquals(error.message, "t: header at offset 512: its size is 11, more than the limit of 10");
  assertEquals(error.data, {
    tar: "t",
    path: "",
    headerOffset: 512,
    limit: "fileSizeBytes",
    actual: 11,
    expected: 10,
  });
});

Deno.test("quoted cuts long text and shows no control characters", () => {
  assertEquals(quoted("a\x07"), '"a\\x07"');
  assertEquals(quoted("a".repeat(200)), `"${"a".repeat(200)}"`);
  assertEquals(quoted("a".repeat(201)), `"${"a".repeat(200)}..."`);
});

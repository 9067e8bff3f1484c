import { assertEquals, assertThrows } from "@std/assert";
import {
  addRecorded,
  notesAbout,
  NotingWarnings,
  recordedWarnings,
} from "../../lib/bless/layered_warnings.ts";
import { InputError } from "../../lib/errors.ts";
import { Warnings } from "../../lib/warnings.ts";

Deno.test("NotingWarnings counts for the run and notes one a kind, from one taking to the next", () => {
  const target = new Warnings();
  const noting = new NotingWarnings(target, "kind");
  noting.add("a", "/x", "first");
  noting.add("a", "/y", "second", 4);
  noting.add("b", "/z", "third");
  assertEquals(noting.take(), [
    { kind: "a", what: "/x", why: "first", count: 5 },
    { kind: "b", what: "/z", why: "third", count: 1 },
  ]);
  assertEquals(noting.take(), []);
  assertEquals(target.list().map(({ kind, count }) => [kind, count]), [["a", 5], ["b", 1]]);
});

Deno.test("NotingWarnings keeps cases of different layers apart where it is told to", () => {
  const noting = new NotingWarnings(new Warnings(), "case");
  noting.add("a", "layer 1: x", "why");
  noting.add("a", "layer 2: y", "why");
  noting.add("diffIdMismatch", "layer 2", "why");
  const notes = noting.take();
  assertEquals(notesAbout(notes, "layer 1").map(({ what }) => what), ["layer 1: x"]);
  assertEquals(notesAbout(notes, "layer 2").map(({ what }) => what), ["layer 2: y"]);
});

Deno.test("NotingWarnings is as strict as what it passes warnings on to", () => {
  const noting = new NotingWarnings(new Warnings(true), "kind");
  assertEquals(noting.strict, true);
  assertThrows(() => noting.add("a", "/x", "why"), InputError);
});

Deno.test("recorded warnings take the layer's name of the image that they are told for", () => {
  const notes = [
    { kind: "a", what: "/x in layer 1 of 2 at offset 0", why: "w", count: 3 },
    { kind: "b", what: "/$& {layer}", why: "w", count: 1 },
  ];
  const recorded = recordedWarnings(notes, "layer 1 of 2");
  assertEquals(recorded.map(({ what }) => what), [["/x in ", " at offset 0"], ["/$& {layer}"]]);
  const warnings = new Warnings();
  addRecorded(recorded, "layer 5 of 9", warnings);
  assertEquals(warnings.list(), [
    { kind: "a", message: "/x in layer 5 of 9 at offset 0: w", count: 3 },
    { kind: "b", message: "/$& {layer}: w", count: 1 },
  ]);
  assertThrows(() => addRecorded(recorded, "layer 1", new Warnings(true)), InputError);
});

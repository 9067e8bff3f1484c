/**
 * Stands for somebody who follows docs/VM.md at the console: starts QEMU with the words it is given, prints what the machine
 * prints, waits for a prompt and types. A machine that shows no prompt ends by itself.
 *
 * @module
 */
import process from "node:process";
import { EMULATED, Machine, PROMPT } from "./machine.ts";

const [commands = "", ...words] = process.argv.slice(2);
const machine = new Machine(
  words.map((word, i) => {
    if (words[i - 1] === "-append") return `${EMULATED} ${word}`;
    return word === "accel=kvm:tcg" ? "accel=tcg" : word;
  }),
  (text) => process.stdout.write(text),
);
const isPrompted = await machine.until(PROMPT).then(() => true, () => false);
if (isPrompted) machine.type(commands);
await machine.ended;
process.exit(0);

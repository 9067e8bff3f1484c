/**
 * The table of all commands, in the order of the help. cli/command.ts says how to add one.
 *
 * @module
 */
import type { Command } from "../command.ts";
import { blessMergedCommand } from "./bless.ts";
import { blessLayeredCommand } from "./bless_layered.ts";
import { catCommand } from "./cat.ts";
import { chunkCommand } from "./chunk.ts";
import { checksumCommand } from "./checksum.ts";
import { completionsCommand } from "./completions.ts";
import { diffCommand } from "./diff.ts";
import { exportCommand } from "./export.ts";
import { helpCommand } from "./help.ts";
import { inspectCommand } from "./inspect.ts";
import { lsCommand } from "./ls.ts";
import { manCommand } from "./man.ts";
import { probeCommand } from "./probe.ts";
import { verifyCommand } from "./verify.ts";
import { verityDumpCommand, verityFormatCommand, verityVerifyCommand } from "./verity.ts";

/** All commands. */
export const COMMANDS: readonly Command[] = [
  blessMergedCommand,
  blessLayeredCommand,
  chunkCommand,
  probeCommand,
  verifyCommand,
  verityFormatCommand,
  verityVerifyCommand,
  verityDumpCommand,
  inspectCommand,
  lsCommand,
  catCommand,
  exportCommand,
  diffCommand,
  checksumCommand,
  completionsCommand(() => COMMANDS),
  manCommand(() => COMMANDS),
  helpCommand(() => COMMANDS),
];

/**
 * Runs the programs that tests check against (e2fsprogs, mount), always in the C locale and without standard input.
 *
 * @module
 */

/** What a command left behind. */
export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const latin1 = new TextDecoder("latin1");

/** Runs a command to its end. A command that is not there is an error that names it. */
export function runCommand(program: string, args: readonly string[]): CommandResult {
  const env = { LC_ALL: "C", PATH: `${Deno.env.get("PATH") ?? ""}:/usr/sbin:/sbin` };
  let output: Deno.CommandOutput;
  try {
    output = new Deno.Command(program, { args: [...args], env, stdin: "null" }).outputSync();
  } catch (cause) {
    throw new Error(`${program}: cannot be started: ${(cause as Error).message}`, { cause });
  }
  return {
    status: output.code,
    stdout: latin1.decode(output.stdout),
    stderr: latin1.decode(output.stderr),
  };
}

/** Runs a command that must succeed and returns its standard output. */
export function mustRun(program: string, args: readonly string[]): string {
  const { status, stdout, stderr } = runCommand(program, args);
  if (status !== 0) {
    throw new Error(`${program} ${args.join(" ")}: exit status ${status}\n${stderr}${stdout}`);
  }
  return stdout;
}

/** Whether a program can be started. */
export function hasCommand(program: string): boolean {
  try {
    runCommand(program, ["--version"]);
    return true;
  } catch {
    return false;
  }
}

/** A directory that is removed afterwards, whatever happens. */
export function withTemporaryDirectory<T>(work: (path: string) => T): T {
  const path = Deno.makeTempDirSync({ prefix: "blessfs-test-" });
  const remove = () => Deno.removeSync(path, { recursive: true });
  // What went wrong in the work matters more than that the directory could not be removed after it.
  const removeAfter = (error: unknown): never => {
    try {
      remove();
    } catch {
      throw error;
    }
    throw error;
  };
  let result: T;
  try {
    result = work(path);
  } catch (error) {
    return removeAfter(error);
  }
  if (!(result instanceof Promise)) {
    remove();
    return result;
  }
  const removed = result.then((value: unknown) => {
    remove();
    return value;
  }, removeAfter);
  return removed as T;
}

/** The few declarations of Bun's modules that the shim uses. */
declare module "bun:test" {
  interface TestFunction {
    (name: string, body: () => unknown): void;
    skip(name: string, body: () => unknown): void;
  }
  export const test: TestFunction;
  export function afterAll(body: () => unknown): void;
}

declare module "bun:ffi" {
  export function dlopen(
    name: string,
    symbols: Readonly<Record<string, { args: readonly string[]; returns: string }>>,
  ): { symbols: Record<string, (...args: unknown[]) => unknown>; close(): void };
  export const read: { i32(pointer: number, offset: number): number };
}

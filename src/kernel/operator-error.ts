/**
 * Something only the person who runs Tallystick can put right: a setting, a full disk, a port in use. The message says
 * what is wrong and what to do, in plain words and without secrets; commands print it without a stack.
 */
export class OperatorError extends Error {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.name = "OperatorError";
  }
}

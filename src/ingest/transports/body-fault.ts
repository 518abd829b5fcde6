import type { RejectionCode } from "#contract";

/** Thrown when a message's body as a whole cannot be had; the message is a sentence for the quarantine. */
export class BodyFault extends Error {
  readonly code: RejectionCode;

  constructor(code: RejectionCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "BodyFault";
    this.code = code;
  }
}

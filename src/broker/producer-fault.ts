/** Why something handed to a producer was not delivered. */
export type ProducerFaultCode =
  /** No event that could ever be counted: no `event_id`, or no JSON. */
  | "invalid_event"
  /** Larger than one message may be. */
  | "too_large"
  /** More is waiting for the broker than may. */
  | "buffer_full"
  /** The broker has nowhere to put it: no such stream, queue or exchange. */
  | "unroutable"
  /** The broker refuses it: permission, size. */
  | "refused"
  /** Not confirmed within `deliverMsMax`. */
  | "timeout"
  /** The producer is closed, or was before the broker confirmed. */
  | "closed";

/** What a producer rejects with. Sending the same event again, with the same `event_id`, is always safe. */
export class ProducerFault extends Error {
  readonly code: ProducerFaultCode;
  /** True when the broker may have it all the same: it was handed over and not answered. */
  readonly isMaybeDelivered: boolean;

  constructor(
    code: ProducerFaultCode,
    message: string,
    options: { isMaybeDelivered?: boolean; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = "ProducerFault";
    this.code = code;
    this.isMaybeDelivered = options.isMaybeDelivered ?? false;
  }
}

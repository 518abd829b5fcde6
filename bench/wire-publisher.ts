import { once } from "node:events";
import { connect, type Socket } from "node:net";
import {
  longText,
  methodFrame,
  MethodReader,
  PROTOCOL,
  type ReceivedMethod,
  shortText,
} from "./amqp-wire.ts";

/** Messages sent and not confirmed yet, at most. */
const UNCONFIRMED_MAX = 20_000;
const CONNECTION = 10;
const CHANNEL = 20;
const BASIC = 60;
const CONFIRM = 85;

/**
 * Publishes messages that are encoded already, with confirms, over a connection of its own: what is left to do is to
 * write bytes and count. Without heartbeats.
 */
export class WirePublisher implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #reader = new MethodReader();
  #published = 0;
  /** All up to this one are confirmed. */
  #confirmedThrough = 0;
  /** Confirmed out of turn. */
  readonly #confirmedBeyond = new Set<number>();
  #failure: Error | undefined;
  /** Whoever waits for something to change; told once. */
  #waiters: (() => void)[] = [];
  #reply: ((method: ReceivedMethod) => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes: Buffer) => {
      for (const method of this.#reader.push(bytes)) this.#receive(method);
      this.#wake();
    });
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(new Error("the broker closed the connection")));
    socket.on("drain", () => this.#wake());
  }

  /** Connects to an `amqp://user:password@host:port/vhost` and turns confirms on. */
  static async open(url: string): Promise<WirePublisher> {
    const { hostname, port, username, password, pathname } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    await once(socket, "connect");
    const publisher = new WirePublisher(socket);
    await publisher.#ask(PROTOCOL);
    const credentials = longText(
      `\0${decodeURIComponent(username)}\0${decodeURIComponent(password)}`,
    );
    const noProperties = Buffer.alloc(4);
    const tune = await publisher.#ask(
      methodFrame(
        0,
        [CONNECTION, 11],
        [noProperties, shortText("PLAIN"), credentials, shortText("en_US")],
      ),
    );
    const tuned = Buffer.from(tune.args);
    tuned.writeUInt16BE(0, 6);
    socket.write(methodFrame(0, [CONNECTION, 31], [tuned]));
    const vhost = shortText(decodeURIComponent(pathname.slice(1)));
    await publisher.#ask(
      methodFrame(0, [CONNECTION, 40], [vhost, shortText(""), Buffer.from([0])]),
    );
    await publisher.#ask(methodFrame(1, [CHANNEL, 10], [shortText("")]));
    await publisher.#ask(methodFrame(1, [CONFIRM, 10], [Buffer.from([0])]));
    return publisher;
  }

  /** Messages confirmed since it was opened. */
  get confirmed(): number {
    return this.#confirmedThrough + this.#confirmedBeyond.size;
  }

  /** Messages published since it was opened. */
  get published(): number {
    return this.#published;
  }

  /** Sends messages in one piece; resolves when more may follow, which is not yet when they are confirmed. */
  async publish(bytes: Buffer, messages: number): Promise<void> {
    this.#published += messages;
    this.#socket.write(bytes);
    await this.#waitUntil(
      () => !this.#socket.writableNeedDrain && this.#published - this.confirmed <= UNCONFIRMED_MAX,
    );
  }

  /** Resolves when so many messages are confirmed, counted from the opening; all that were published by default. */
  async confirm(messages = this.#published): Promise<void> {
    await this.#waitUntil(() => this.confirmed >= messages);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#socket.destroyed) return;
    this.#socket.destroy();
    await once(this.#socket, "close");
  }

  async #waitUntil(isReached: () => boolean): Promise<void> {
    while (!isReached()) {
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  #wake(): void {
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  /** Sends what the broker answers with a method, and resolves with that. */
  async #ask(bytes: Buffer): Promise<ReceivedMethod> {
    let answer: ReceivedMethod | undefined;
    this.#reply = (method) => (answer = method);
    this.#socket.write(bytes);
    await this.#waitUntil(() => answer !== undefined);
    if (answer === undefined) throw new Error("the broker did not answer");
    return answer;
  }

  #receive(method: ReceivedMethod): void {
    const { classId, methodId, args } = method;
    if (classId === BASIC && methodId === 80) {
      this.#noteConfirmed(Number(args.readBigUInt64BE(0)), args.readUInt8(8) === 1);
    } else if (classId === BASIC && methodId === 120) {
      this.#fail(new Error("the broker refused a message"));
    } else if (
      (classId === CONNECTION && methodId === 50) ||
      (classId === CHANNEL && methodId === 40)
    ) {
      const words = args.toString("utf8", 3, 3 + args.readUInt8(2));
      this.#fail(new Error(`the broker said ${args.readUInt16BE(0)} ${words}`));
    } else this.#reply?.(method);
  }

  #noteConfirmed(tag: number, withAllBefore: boolean): void {
    const beyond = this.#confirmedBeyond;
    if (withAllBefore) {
      if (tag > this.#confirmedThrough) this.#confirmedThrough = tag;
      for (const one of beyond) if (one <= tag) beyond.delete(one);
    } else beyond.add(tag);
    while (beyond.delete(this.#confirmedThrough + 1)) this.#confirmedThrough++;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }
}

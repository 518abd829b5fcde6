/** One line of a file without its line end, or null bytes when it was longer than the limit. */
export type Line = { line: number; bytes: Buffer | null };

const LF = 0x0a;
const EMPTY = Buffer.alloc(0);

/**
 * Cuts what arrives into lines at LF (a CR before it stays: it is white space to what reads on). Empty lines are passed
 * over but counted; the first line of the file is 1. A line beyond `lineBytesMax` is given without its bytes. Memory:
 * one line and one chunk.
 */
export class LineReader {
  readonly #lineBytesMax: number;
  #rest: Buffer = EMPTY;
  #line = 1;
  /** The line being read is too long already: its bytes are let go as they arrive. */
  #isTooLong = false;

  constructor(options: { lineBytesMax: number }) {
    this.#lineBytesMax = options.lineBytesMax;
  }

  /** Takes the next piece of the file; returns the lines that it completes. */
  push(chunk: Buffer): Line[] {
    const lines: Line[] = [];
    let at = 0;
    for (let end = chunk.indexOf(LF); end >= 0; end = chunk.indexOf(LF, at)) {
      this.#take(chunk.subarray(at, end), lines);
      at = end + 1;
    }
    this.#keep(chunk.subarray(at));
    return lines;
  }

  /** Says that the file has ended; returns a last line that had no line end. */
  end(): Line[] {
    const lines: Line[] = [];
    this.#take(EMPTY, lines);
    return lines;
  }

  #take(piece: Buffer, lines: Line[]): void {
    this.#keep(piece);
    const line = this.#line++;
    if (this.#isTooLong) lines.push({ line, bytes: null });
    else if (!isBlank(this.#rest)) lines.push({ line, bytes: this.#rest });
    this.#rest = EMPTY;
    this.#isTooLong = false;
  }

  #keep(piece: Buffer): void {
    if (this.#isTooLong) return;
    if (this.#rest.length + piece.length > this.#lineBytesMax) {
      this.#isTooLong = true;
      this.#rest = EMPTY;
    } else {
      this.#rest = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    }
  }
}

const isBlank = (bytes: Buffer): boolean =>
  bytes.length === 0 || (bytes.length === 1 && bytes[0] === 0x0d);

import { OperatorError } from "#kernel";

/** Code of a system error ("ENOSPC", "EACCES"), or "". */
export const systemCodeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

/** Turns what the file system says about `path` into words, where the person at the keyboard can help. */
export function explainFileError(error: unknown, path: string): unknown {
  switch (systemCodeOf(error)) {
    case "ENOSPC":
    case "EDQUOT":
      return new OperatorError(
        `The disk that holds ${path} is full. Make room and start again: nothing stored is lost.`,
        { cause: error },
      );
    case "EACCES":
    case "EPERM":
      return new OperatorError(
        `${path} may not be read or written by this user. Give it the rights, or choose another folder with --data-dir.`,
        { cause: error },
      );
    case "EROFS":
      return new OperatorError(
        `${path} is on a read-only file system. Choose another folder with --data-dir.`,
        { cause: error },
      );
    case "ENOTDIR":
    case "EEXIST":
      return new OperatorError(`${path} is not a folder. Choose another with --data-dir.`, {
        cause: error,
      });
    default:
      return error;
  }
}

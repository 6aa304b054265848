/** JSON over HTTP. Every failure says what happened and, where the server knows, what to do. */

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly hint = "",
  ) {
    super(message);
  }
}

const TIMEOUT_MS = 15_000;

function described(status: number, body: unknown): ApiError {
  const error = (body as { error?: unknown } | null)?.error;
  if (typeof error === "object" && error !== null) {
    const { message, hint } = error as { message?: string; hint?: string };
    return new ApiError(message ?? `The server answered ${status}.`, status, hint ?? "");
  }
  const text = typeof error === "string" ? error : `The server answered ${status}.`;
  return new ApiError(text, status);
}

async function answer(path: string, init: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(path, {
      ...init,
      signal: AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), ...(init.signal ? [init.signal] : [])]),
    });
  } catch (reason) {
    if (init.signal?.aborted) throw reason;
    throw new ApiError("The server cannot be reached.", 0, "It is tried again by itself.");
  }
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) throw described(response.status, body);
  return body;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await answer(path, {
    headers: { accept: "application/json" },
    ...(signal ? { signal } : {}),
  })) as T;
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  return (await answer(path, {
    method: "POST",
    headers: { accept: "application/json", "content-type": "application/json" },
    body: JSON.stringify(body),
  })) as T;
}

/** Any other request: text or JSON there and back, with the ETag that a change must name. */
export async function send(
  method: "GET" | "POST" | "PUT" | "DELETE",
  path: string,
  body?: string,
  type = "application/yaml",
  tag: string | null = null,
): Promise<{ body: unknown; etag: string | null }> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      headers: {
        ...(body === undefined ? {} : { "content-type": type }),
        ...(tag === null ? {} : { "if-match": tag }),
      },
      ...(body === undefined ? {} : { body }),
    });
  } catch {
    throw new ApiError("The server cannot be reached.", 0, "Nothing was changed.");
  }
  const json = response.headers.get("content-type")?.includes("json") ?? false;
  const answered: unknown = json ? await response.json().catch(() => null) : await response.text();
  if (!response.ok) throw described(response.status, answered);
  return { body: answered, etag: response.headers.get("etag") };
}

export const own = (path: string) => `/api/warroom/v1${path}`;

/** The API as functions: one error class, the CSRF token, and a key per press so that a retry never acts twice. */

import type { FieldError, Strategy } from "./contract";

const BASE = "/api/v1";
const ANSWER_WITHIN_MS = 15_000;
const RETRY_AFTER_MS = [500, 1500, 4000];

export class ApiError extends Error {
  constructor(
    message: string,
    /** 0: no answer came, so it may or may not have been done. */
    readonly status: number,
    readonly code: string,
    readonly fields: FieldError[],
    readonly requestId: string,
    readonly current: Strategy | null,
    readonly login: "link" | "password" | null,
    readonly retryAfterS: number | null,
  ) {
    super(message);
  }

  /** The error as one sentence for a person, with what to quote when asking for help. */
  get sentence(): string {
    if (this.status === 0) return this.message;
    return this.requestId === "" ? this.message : `${this.message} (request ${this.requestId})`;
  }
}

let csrf = "";
let onSignedOut: () => void = () => undefined;

export function useCsrf(token: string): void {
  csrf = token;
}

export function whenSignedOut(act: () => void): void {
  onSignedOut = act;
}

interface ErrorBody {
  error?: {
    code?: string;
    message?: string;
    fields?: FieldError[];
    request_id?: string;
    current?: Strategy;
    login?: "link" | "password";
  };
}

function noAnswer(): ApiError {
  return new ApiError(
    "squareoff did not answer: it is not known whether this was done",
    0,
    "no_answer",
    [],
    "",
    null,
    null,
    null,
  );
}

async function refusal(response: Response): Promise<ApiError> {
  const body: ErrorBody = await response.json().catch(() => ({}));
  const error = body.error ?? {};
  const wait = Number(response.headers.get("Retry-After"));
  return new ApiError(
    error.message ?? `squareoff answered ${response.status}`,
    response.status,
    error.code ?? "unknown",
    error.fields ?? [],
    error.request_id ?? "",
    error.current ?? null,
    error.login ?? null,
    response.headers.has("Retry-After") && Number.isFinite(wait) ? wait : null,
  );
}

async function ask<T>(method: string, path: string, body: unknown, key: string | null): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (key !== null) headers["Idempotency-Key"] = key;
  const init: RequestInit = { method, headers, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) init.body = JSON.stringify(body);
  init.signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
  let response: Response;
  try {
    response = await fetch(BASE + path, init);
  } catch {
    throw noAnswer();
  }
  if (!response.ok) {
    const error = await refusal(response);
    if (response.status === 401 && path !== "/session") onSignedOut();
    throw error;
  }
  if (response.status === 204) return undefined as T;
  const isJson = (response.headers.get("Content-Type") ?? "").includes("json");
  try {
    return (isJson ? await response.json() : await response.text()) as T;
  } catch {
    throw noAnswer();
  }
}

const pause = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

export function newKey(): string {
  // randomUUID exists only over https and on localhost; a phone in the same network may come over http.
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

export const get = <T>(path: string) => ask<T>("GET", path, undefined, null);
export const put = <T>(path: string, body: unknown) => ask<T>("PUT", path, body, null);
export const patch = <T>(path: string, body: unknown) => ask<T>("PATCH", path, body, null);
export const remove = (path: string) => ask<undefined>("DELETE", path, undefined, null);
/** A POST that changes nothing, such as a check: no key, no retry. */
export const query = <T>(path: string, body: unknown) => ask<T>("POST", path, body, null);

/** A POST that acts. Without an answer it is sent again under the same key, so that it is done once at most. */
export async function act<T>(path: string, body: unknown, key: string = newKey()): Promise<T> {
  for (const wait of RETRY_AFTER_MS) {
    try {
      return await ask<T>("POST", path, body, key);
    } catch (error) {
      if (!(error instanceof ApiError) || (error.status !== 0 && error.status !== 503)) throw error;
      await pause(wait);
    }
  }
  return ask<T>("POST", path, body, key);
}

export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(error instanceof Error ? error.message : String(error), 0, "page", [], "", null, null, null);
}

/** A page's own data: fetched at once, again on every tick of the stream while the page is seen, kept when a refresh fails. */
import { untrack } from "svelte";
import { ApiError, get } from "./api";
import { live } from "./live.svelte";

export interface Resource<T> {
  readonly data: T | undefined;
  readonly error: ApiError | undefined;
  readonly loading: boolean;
  reload: () => void;
}

/**
 * Call while a component is being set up. `path` is read reactively: a changed path is a new fetch,
 * an empty one none. `keep` shows the old answer until the new one is there.
 */
export function resource<T>(path: () => string, { follow = true, keep = false } = {}): Resource<T> {
  let data = $state.raw<T>();
  let error = $state.raw<ApiError>();
  let loading = $state(true);
  let busy = false;
  let abort: AbortController | undefined;
  let current: string | undefined;

  async function load(url: string, fresh: boolean): Promise<void> {
    if (busy && !fresh) return;
    abort?.abort();
    const mine = new AbortController();
    abort = mine;
    busy = true;
    if (fresh) loading = true;
    try {
      const answer = await get<T>(url, mine.signal);
      if (mine.signal.aborted) return;
      data = answer;
      error = undefined;
    } catch (reason) {
      if (mine.signal.aborted) return;
      error = reason instanceof ApiError ? reason : new ApiError(String(reason), 0);
    } finally {
      if (abort === mine) {
        busy = false;
        loading = false;
      }
    }
  }

  function idle(): void {
    abort?.abort();
    data = error = undefined;
    busy = loading = false;
  }

  $effect(() => {
    const url = path();
    void live.tick;
    untrack(() => {
      const fresh = url !== current;
      if (fresh) {
        current = url;
        if (!keep) data = undefined;
        if (url) void load(url, true);
        else idle();
      } else if (url && follow && !document.hidden) void load(url, false);
    });
  });
  $effect(() => () => abort?.abort());

  return {
    get data() {
      return data;
    },
    get error() {
      return error;
    },
    get loading() {
      return loading;
    },
    reload: () => void (current && load(current, true)),
  };
}

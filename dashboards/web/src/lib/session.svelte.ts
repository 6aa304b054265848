/** What this browser may do. A wall display opens `/?tv=1#token=wr_…` once; from then on a cookie signs it in. */
import { own } from "./api";

export type Role = "admin" | "viewer" | "display" | "ingest";
interface Session {
  known: boolean;
  /** The service asks for tokens at this address. */
  tokens: boolean;
  role: Role | null;
  /** It asks, and this browser has none. */
  needed: boolean;
  problem: string;
}
export const session = $state<Session>({
  known: false,
  tokens: false,
  role: null,
  needed: false,
  problem: "",
});

interface Answer {
  role: Role | null;
  tokens_required: boolean;
}

async function ask(method: "GET" | "POST" | "DELETE", token = ""): Promise<Response> {
  return fetch(own("/session"), {
    method,
    headers: { accept: "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}) },
  });
}

function take(answer: Answer): void {
  session.role = answer.role;
  session.tokens = answer.tokens_required;
  session.needed = answer.tokens_required && answer.role === null;
  session.known = true;
}

/** Signs in with a token; false says it is not taken. */
export async function signIn(token: string): Promise<boolean> {
  session.problem = "";
  try {
    const response = await ask("POST", token);
    if (response.ok) take((await response.json()) as Answer);
    else
      session.problem =
        response.status === 401 ? "This token is not known, or has expired." : "It was refused.";
    return response.ok;
  } catch {
    session.problem = "The server cannot be reached.";
    return false;
  }
}

export async function signOut(): Promise<void> {
  await ask("DELETE").catch(() => undefined);
  location.assign("/");
}

/** Call once. A token in the address's fragment never reaches the server's log; it is taken out of the address at once. */
export async function begin(): Promise<void> {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname + location.search);
    if (await signIn(token)) return;
  }
  try {
    const response = await ask("GET");
    take(response.ok ? ((await response.json()) as Answer) : { role: "admin", tokens_required: false });
  } catch {
    session.known = true; // the stream's banner says that the server does not answer
  }
}

export const may = {
  get change(): boolean {
    return session.role === null ? !session.needed : session.role === "admin";
  },
  /** A display shows boards and nothing else. */
  get browse(): boolean {
    return session.role !== "display";
  },
};

// Who is signed in. The key lies in this tab's sessionStorage alone: never in an address, never on disk.

import { Api, ApiError, reason } from "./api.js";
import { computed, signal } from "./ui/html.js";

const KEPT = "trunkline-console-key";
const ROLES = ["viewer", "operator", "admin"];

/** {api, name, role} or null. */
export const session = signal(null);
/** Why somebody was signed out, or could not be signed in. */
export const refusal = signal("");
export const role = computed(() => session.value?.role ?? "");

/** Whether the key reaches what needs a role. What it may not do is not offered; the agent refuses it anyway. */
export function may(needed) {
  return ROLES.indexOf(role.value) >= ROLES.indexOf(needed);
}

/** The API, for whoever is signed in. */
export function api() {
  return session.value.api;
}

/** Signs in; `refusal` says why not. Returns whether it worked. */
export async function signIn(key, again = false) {
  const asking = new Api(key);
  try {
    const { name, role } = await asking.get("/me");
    asking.refused = () => signOut("This key is not known any more. Sign in again.");
    sessionStorage.setItem(KEPT, key);
    refusal.value = "";
    session.value = { api: asking, name, role };
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) sessionStorage.removeItem(KEPT);
    refusal.value = again && error.status === 401 ? "This key is not known any more. Sign in again." : whyNot(error);
    return false;
  }
}

export function signOut(why = "") {
  sessionStorage.removeItem(KEPT);
  refusal.value = why;
  session.value = null;
}

/** Signs in with the key that this tab had, if it had one. */
export async function comeBack() {
  const key = sessionStorage.getItem(KEPT);
  if (key) await signIn(key, true);
}

function whyNot(error) {
  if (!(error instanceof ApiError)) return reason(error);
  const unknown = error.status === 401 && !error.message.startsWith("the API is closed");
  return unknown ? "This key is not known. Check that it was copied whole." : reason(error);
}

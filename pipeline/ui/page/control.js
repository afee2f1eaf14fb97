// The controls of the page, served with `--control` only. They ask the interface below /v1, which decides everything.
// The token is in this tab's sessionStorage and in the Authorization header of requests to this server, nowhere else.
"use strict";

const STORED = "pipeline-token";
const SCOPES = ["read", "submit", "control"]; // each includes those before it
const ANSWER_LIMIT_MS = 30000;
const LOOK_MS = 2000; // how often the state is asked for, at most

let holder = null; // name, scope and end of the token; null: the server was not asked yet
let farm = null; // what the server has answered last: { latest, played, status of the shown generation }
let busy = false; // while a change is asked for
let round = 0; // numbers the questions for the state: only the answer to the last one counts
let nextKey = crypto.randomUUID(); // of the request for a next generation, until that is answered or seen to be played

const stored = () => sessionStorage.getItem(STORED);

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status; // 0: there was no answer
  }
}

// ---------------------------------------------------------------------------------------------------------- requests

async function ask(method, path, { key, body, token = stored() } = {}) {
  const headers = { Authorization: `Bearer ${token}` };
  if (key) headers["Idempotency-Key"] = key;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(`/v1${path}`, {
      method, headers, body: body && JSON.stringify(body), credentials: "omit", redirect: "error",
      signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
    });
    if (answer.ok) return await answer.json();
  } catch {
    throw new Refused(0, "the server does not answer; look whether `pipeline serve --control` still runs");
  }
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, problem.detail || `the server answers with ${answer.status}`);
}

// --------------------------------------------------------------------------------------------------------- operations

// What can be asked of a generation. The interface decides; `isPossible` only says when a button would make sense.
const OPERATIONS = [
  {
    id: "open-again", scope: "submit", style: "main",
    isPossible: ({ played, status }) => played === null && ["stopped", "stalled"].includes(status?.state),
    label: (number) => `Open generation ${number} again`,
    request: ({ status }) => ["/generations", { body: { number: status.number } }],
    done: ({ number }) => `Generation ${number} is open again.`,
  },
  {
    id: "open-next", scope: "submit", style: "main",
    isPossible: ({ played }) => played === null,
    label: () => "Open next generation",
    request: () => ["/generations", { key: nextKey, body: {} }],
    done: ({ number }) => `Generation ${number} is open.`,
  },
  {
    id: "close", scope: "submit",
    isPossible: ({ status }) => status?.state === "open",
    label: (number) => `Close generation ${number}`,
    request: ({ status }) => [`/generations/${status.number}/close`],
    done: ({ number }) => `Generation ${number} takes no more genomes.`,
  },
  {
    id: "stop", scope: "control", style: "danger",
    isPossible: ({ status }) => ["open", "closed"].includes(status?.state),
    label: (number) => `Stop generation ${number}`,
    question: (number) => ({
      title: `Stop generation ${number}?`, yes: "Stop",
      text: "It is not played any more until it is opened again. What is counted is kept.",
    }),
    request: ({ status }) => [`/generations/${status.number}/stop`],
    done: ({ number, state }) => `Generation ${number} ${state === "finished" ? "was finished before" : "is stopped"}.`,
  },
  {
    id: "reopen-failed", scope: "control",
    isPossible: ({ played, status }) => played === null && status?.state === "finished" && status.failed > 0,
    label: () => "Play failed again",
    request: ({ status }) => [`/generations/${status.number}/reopen-failed`],
    done: ({ number }) => `The failed genomes of generation ${number} are played again.`,
  },
];

// What can be asked of the worker that is chosen; the host does it within seconds.
const WORKER_OPERATIONS = [
  {
    id: "drain", scope: "control",
    isPossible: (worker) => !["drained", "draining"].includes(worker.state),
    label: (name) => `Drain ${name}`,
    done: (name) => `${name} gets no more work, and finishes its game.`,
  },
  {
    id: "return", scope: "control",
    isPossible: (worker) => ["drained", "draining"].includes(worker.state),
    label: (name) => `Return ${name}`,
    done: (name) => `${name} gets work again.`,
  },
  {
    id: "restart", scope: "control", style: "danger",
    isPossible: () => true,
    label: (name) => `Restart ${name}`,
    question: (name) => ({
      title: `Restart ${name}?`, yes: "Restart",
      text: "Its machine is restarted, or its agent if it is on this computer or on a site. Its game is played again by another worker.",
    }),
    done: (name) => `${name} will be restarted.`,
  },
];

const mayDo = (scope) => SCOPES.indexOf(holder.scope) >= SCOPES.indexOf(scope);

// Puts buttons into a place, in this order. One that is there already stays, and with it the focus.
// Each has { id, label, style, scope, run }; `run` is called while it is allowed and nothing else is being asked for.
function putButtons(place, wanted) {
  const there = new Map([...place.children].map((button) => [button.dataset.operation, button]));
  const buttons = wanted.map((one) => {
    const button = there.get(one.id) ?? element("button");
    const allowed = mayDo(one.scope);
    button.dataset.operation = one.id;
    button.className = `button ${one.style ?? ""}`;
    button.textContent = one.label;
    button.setAttribute("aria-disabled", busy || !allowed); // unlike `disabled`, it can have the focus, and its reason
    if (allowed) button.removeAttribute("aria-describedby");
    else button.setAttribute("aria-describedby", "scope");
    button.onclick = () => { if (!busy && allowed) one.run(); };
    return button;
  });
  for (const button of there.values()) if (!buttons.includes(button)) button.remove();
  buttons.forEach((button, n) => {
    if (place.children[n] !== button) place.insertBefore(button, place.children[n] ?? null);
  });
}

// Asks for a change, after a question if there is one, and shows what came of it. `done` turns the answer into words.
async function change({ label, question, request: [path, options], done }) {
  if (question && !(await isConfirmed(question))) return;
  busy = true;
  round += 1; // what was asked before is old
  draw();
  say(`${label} …`, "");
  let answer = null, failure = null;
  try {
    answer = await ask("POST", path, options);
    if (options?.key) nextKey = crypto.randomUUID();
    const isOther = answer.number && answer.number !== shown?.shown;
    if (isOther) await look(answer.number).catch(() => null); // the page asks for it again
  } catch (error) {
    failure = error;
  }
  await readState();
  busy = false;
  draw();
  if (failure) refuse(failure);
  else say(done(answer), "");
}

function isConfirmed({ title, text, yes }) {
  const dialog = $("question");
  $("question-title").textContent = title;
  $("question-text").textContent = text;
  $("question-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// -------------------------------------------------------------------------------------------------------------- state

// What is done, and what was refused; both are read out when they change.
function say(done, refused) {
  $("done").textContent = done;
  $("refused").textContent = refused;
}

function refuse(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.status === 401) lock();
  say("", error.message);
}

function situation({ latest, played, status }) {
  if (latest === null) return "No generation was begun yet.";
  const number = status?.number, waiting = status?.waiting ? ` Genomes that wait for a worker: ${status.waiting}.` : "";
  const elsewhere = played !== null && played !== number ? ` Generation ${played} is being played.` : "";
  return ({
    open: `Generation ${number} is played, and takes genomes.${waiting}`,
    closed: `Generation ${number} is played, and takes no more genomes.${waiting}`,
    finished: `Generation ${number} is finished.`,
    stopped: `Generation ${number} is stopped. Open it again to go on.`,
    stalled: `Generation ${number} cannot go on: ${status?.reason}`,
  }[status?.state] ?? "") + elsewhere;
}

function draw() {
  const hadFocus = $("operations").contains(document.activeElement);
  $("lock").hidden = !stored();
  $("unlock").hidden = !$("lock").hidden;
  $("operations").setAttribute("aria-busy", busy);
  const until = holder?.expires_at ? `, until ${holder.expires_at.slice(0, 16).replace("T", " ")} UTC` : "";
  const locked = "Enter a token to start, stop and play again from here.";
  $("holder").textContent = holder ? `Token ${holder.name}, scope ${holder.scope}${until}` : stored() ? "" : locked;
  const text = farm ? situation(farm) : "";
  if ($("situation").textContent !== text) $("done").textContent = ""; // it may not hold any more
  $("situation").textContent = text;
  const buttons = farm ? possibleButtons() : [];
  putButtons($("operations"), buttons);
  const forWorker = farm ? drawWorker() : [];
  $("worker-control").hidden = !forWorker.length;
  putButtons($("worker-operations"), forWorker);
  buttons.push(...forWorker);
  const needed = SCOPES.findLast((scope) => buttons.some((one) => one.scope === scope && !mayDo(scope)));
  $("scope").hidden = !needed;
  $("scope").textContent = !needed ? "" : `The scope of this token is ${holder.scope}; the buttons that are off need `
    + `${needed}. Lock, and enter a token of “pipeline token make NAME --scope ${needed}”.`;
  if (hadFocus && !$("operations").contains(document.activeElement)) $("control-title").focus(); // the button is gone
}

// Fills the list of workers; returns the buttons for the one that is chosen.
function drawWorker() {
  const names = farm.workers.map((worker) => worker.name), list = $("worker");
  if (names.join("\n") !== [...list.options].map((option) => option.value).join("\n")) {
    const chosen = list.value;
    list.replaceChildren(...names.map((name) => Object.assign(element("option"), { value: name, textContent: name })));
    if (names.includes(chosen)) list.value = chosen;
  }
  const worker = farm.workers.find((one) => one.name === list.value);
  $("worker-state").textContent = worker ? [worker.state, worker.genome].filter(Boolean).join(", ") : "";
  if (!worker) return [];
  return WORKER_OPERATIONS.filter((one) => one.isPossible(worker)).map((one) => {
    const label = one.label(worker.name), question = one.question?.(worker.name);
    const request = [`/workers/${encodeURIComponent(worker.name)}/${one.id}`];
    return { ...one, label, run: () => change({ label, question, request, done: () => one.done(worker.name) }) };
  });
}

function possibleButtons() {
  const { played, status } = farm, number = status?.number;
  const buttons = OPERATIONS.filter((one) => one.isPossible(farm)).map((one) => {
    const [label, question] = [one.label(number), one.question?.(number)];
    return { ...one, label, run: () => change({ label, question, request: one.request(farm), done: one.done }) };
  });
  if (played !== null && played !== number) {
    const run = () => look(played).then(refresh);
    buttons.push({ id: "show", scope: "read", label: `Show generation ${played}`, run });
  }
  return buttons;
}

async function refresh() {
  if (!busy && stored()) await readState();
}

// Asks for the state and shows it.
async function readState() {
  const mine = ++round;
  try {
    const known = holder ?? await ask("GET", "/token");
    const project = await ask("GET", "/project"), number = shown?.shown ?? project.latest_generation;
    const status = number === null ? null : await ask("GET", `/generations/${number}`);
    if (mine !== round) return;
    if (project.open_generation !== null) nextKey = crypto.randomUUID();
    holder = known;
    farm = { latest: project.latest_generation, played: project.open_generation, status, workers: project.workers };
    draw();
  } catch (error) {
    if (mine !== round) return;
    if (!(error instanceof Refused) || error.status === 401) refuse(error);
    else $("situation").textContent = error.message; // until there is an answer
  }
}

async function follow() {
  for (;;) {
    const begun = performance.now();
    if (!document.hidden) await refresh();
    const took = performance.now() - begun; // so a large generation costs the server little
    await new Promise((resolve) => setTimeout(resolve, Math.max(LOOK_MS, 10 * took)));
  }
}

// --------------------------------------------------------------------------------------------------------- the token

function lock() {
  sessionStorage.removeItem(STORED);
  holder = farm = null;
  round += 1;
  draw();
}

// Uses a token, if the server knows it.
async function use(token) {
  if (!/^[\w-]+$/.test(token)) {
    throw new Refused(401, "a token has only letters, digits, - and _; copy the whole line that was printed");
  }
  holder = await ask("GET", "/token", { token });
  sessionStorage.setItem(STORED, token);
  await refresh();
}

function openEntry() {
  $("token").value = $("entry-refused").textContent = "";
  $("entry").showModal();
}

$("unlock").addEventListener("click", openEntry);
$("lock").addEventListener("click", () => {
  lock();
  say("Locked: this tab has forgotten the token.", "");
  $("unlock").focus();
});
$("entry-cancel").addEventListener("click", () => $("entry").close());
$("entry").addEventListener("close", () => { $("token").value = ""; });
$("entry").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("entry-refused").textContent = "";
  try {
    await use($("token").value.trim());
    $("entry").close();
    say("", "");
    $("control-title").focus();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("entry-refused").textContent = error.message;
    $("token").select();
  }
});
$("generation").addEventListener("change", refresh);
$("worker").addEventListener("change", draw);

draw();
follow();

"use strict";

const message = document.getElementById("message");

// say shows the outcome of the last action until the next one.
function say(text, failed) {
  message.textContent = text;
  message.classList.toggle("failed", failed);
  message.hidden = false;
}

// api returns the decoded answer, or throws an Error that says what the server said.
async function api(path, options) {
  const response = await fetch(path, options);
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Error(`${response.status} ${body.code ?? response.statusText}: ${body.error ?? "no reason given"}`);
  }
  return body;
}

async function vote(choice) {
  try {
    await api(`/api/vote?choice=${encodeURIComponent(choice.shortcode)}`, { method: "POST" });
    say(`${choice.emoji} Your vote for ${choice.shortcode} counts.`, false);
  } catch (err) {
    say(`${choice.emoji} Your vote for ${choice.shortcode} failed. ${err.message}`, true);
  }
  await showLeaders().catch((err) => say(`The leaderboard failed. ${err.message}`, true));
}

function button(choice) {
  const made = document.createElement("button");
  const emoji = document.createElement("span");
  emoji.textContent = choice.emoji;
  made.append(emoji, choice.shortcode);
  made.dataset.choice = choice.shortcode;
  made.addEventListener("click", () => vote(choice));
  return made;
}

async function showChoices() {
  const { choices } = await api("/api/list");
  document.getElementById("choices").replaceChildren(...choices.map(button));
}

async function showLeaders() {
  const { leaders } = await api("/api/leaderboard");
  document.getElementById("leaders").replaceChildren(...leaders.map((leader) => {
    const line = document.createElement("li");
    const votes = document.createElement("b");
    votes.textContent = leader.votes;
    line.append(`${leader.emoji} ${leader.shortcode}`, votes);
    return line;
  }));
}

showChoices().catch((err) => say(`The choices failed. ${err.message}`, true));
showLeaders().catch((err) => say(`The leaderboard failed. ${err.message}`, true));
setInterval(() => showLeaders().catch(() => {}), 5000); // the next click reports what is wrong

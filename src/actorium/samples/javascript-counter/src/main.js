// Works through a catalogue item by item; an abort or a move loses nothing and repeats nothing.
import { setTimeout as sleep } from 'node:timers/promises';

import { Actor, log } from 'apify';

const STATE = 'STATE';

await Actor.init();

const { count = 50, delayMillis = 200 } = (await Actor.getInput()) ?? {};
const state = (await Actor.getValue(STATE)) ?? { done: 0 };
const dataset = await Actor.openDataset();
// A process that was killed may have pushed more than it saved.
state.done = Math.max(state.done, (await dataset.getData({ limit: 1 })).total);
if (state.done > 0) log.info(`Continuing after item ${state.done}`);

let stopping = false;
const save = () => Actor.setValue(STATE, state);
Actor.on('persistState', save);
Actor.on('aborting', () => {
    log.info(`Asked to stop: saving after item ${state.done}`);
    stopping = true;
});

while (state.done < count && !stopping) {
    const number = state.done + 1;
    await Actor.pushData({ number, name: `Item ${number}`, square: number * number });
    state.done = number;
    log.info(`Item ${number} of ${count}`);
    if (number % 10 === 0) await Actor.setStatusMessage(`${number} of ${count} items done`);
    await sleep(delayMillis);
}
await save();
if (!stopping) await Actor.exit({ statusMessage: `All ${count} items done` });
await Actor.exit();

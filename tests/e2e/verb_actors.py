"""One Actor for each stock SDK whose input says which of a run's verbs it uses, for processes and containers."""

from __future__ import annotations

from e2e.test_sdks import javascript
from support.docker_images import NODE, SDK

_PYTHON = """
import asyncio

from apify import Actor, Event, Webhook

EVENTS = {
    Event.ABORTING: "aborting", Event.MIGRATING: "migrating",
    Event.PERSIST_STATE: "persistState", Event.SYSTEM_INFO: "systemInfo",
}
leave = asyncio.Event()


def listen(event: Event) -> None:
    async def told() -> None:
        print("EVENT", EVENTS[event], flush=True)
        if event is Event.ABORTING:
            leave.set()

    Actor.on(event, told)


async def main() -> None:
    async with Actor:
        given = await Actor.get_input() or {}
        mode = given.get("mode", "echo")
        before = await Actor.get_value("STATE") or {}
        await Actor.set_value("STATE", {"lives": before.get("lives", 0) + 1})
        if mode == "echo":
            await Actor.push_data(given)
        elif mode == "reboot":
            if not before:
                await Actor.reboot()
            await Actor.push_data({"lives": before["lives"] + 1})
        elif mode == "metamorph":
            await Actor.metamorph(given["target"], {"mode": "echo", "from": "metamorph"})
        elif mode == "call":
            run = await Actor.call(given["target"], {"mode": "echo", "n": 1})
            await Actor.push_data({"called": run.id, "status": run.status})
        elif mode == "abort":
            run = await Actor.start(given["target"], {"mode": "wait"})
            await Actor.abort(run.id)
            await Actor.push_data({"aborted": run.id})
        elif mode == "others":
            await Actor.add_webhook(Webhook(event_types=["ACTOR.RUN.SUCCEEDED"], request_url=given["receiver"]))
            charged = await Actor.charge("page", count=2)
            run = await Actor.call_task(given["task"], {"from": "task"})
            try:
                proxy = await Actor.create_proxy_configuration()
            except Exception as error:
                proxy = f"refused: {error}"
            await Actor.push_data({"charged": charged.charged_count, "called": run.id, "proxy": proxy})
        elif mode == "wait":
            for event in EVENTS:
                listen(event)
            print("WAITING", flush=True)
            while not before and not leave.is_set():
                await asyncio.sleep(0.1)
        elif mode == "status":
            await Actor.set_status_message("Half way")
            await Actor.exit(status_message="All done")
        elif mode == "fail":
            await Actor.fail(exit_code=7, status_message="No luck")
        elif mode == "raise":
            raise RuntimeError("oops")
        elif mode == "exit":
            await Actor.exit(exit_code=3)


asyncio.run(main())
"""

_JAVASCRIPT = """
import { Actor } from 'apify';

await Actor.main(async () => {
    const given = (await Actor.getInput()) ?? {};
    const mode = given.mode ?? 'echo';
    const before = await Actor.getValue('STATE');
    await Actor.setValue('STATE', { lives: (before?.lives ?? 0) + 1 });
    if (mode === 'echo') await Actor.pushData(given);
    else if (mode === 'reboot') {
        if (!before) await Actor.reboot();
        await Actor.pushData({ lives: before.lives + 1 });
    } else if (mode === 'metamorph') await Actor.metamorph(given.target, { mode: 'echo', from: 'metamorph' });
    else if (mode === 'call') {
        const run = await Actor.call(given.target, { mode: 'echo', n: 1 });
        await Actor.pushData({ called: run.id, status: run.status });
    } else if (mode === 'abort') {
        const run = await Actor.start(given.target, { mode: 'wait' });
        await Actor.abort(run.id);
        await Actor.pushData({ aborted: run.id });
    } else if (mode === 'others') {
        await Actor.addWebhook({ eventTypes: ['ACTOR.RUN.SUCCEEDED'], requestUrl: given.receiver });
        const { chargedCount } = await Actor.charge({ eventName: 'page', count: 2 });
        const run = await Actor.callTask(given.task, { from: 'task' });
        const proxy = await Actor.createProxyConfiguration().catch((error) => `refused: ${error.message}`);
        await Actor.pushData({ charged: chargedCount, called: run.id, proxy: proxy ?? null });
    } else if (mode === 'wait') {
        for (const name of ['aborting', 'migrating', 'persistState', 'systemInfo']) {
            Actor.on(name, () => console.log('EVENT', name));
        }
        console.log('WAITING');
        while (!before) await new Promise((resolve) => { setTimeout(resolve, 100); });
    } else if (mode === 'status') {
        await Actor.setStatusMessage('Half way');
        await Actor.exit('All done');
    } else if (mode === 'fail') await Actor.fail('No luck', { exitCode: 7 });
    else if (mode === 'raise') throw new Error('oops');
    else if (mode === 'exit') await Actor.exit({ exitCode: 3 });
});
"""

_NATIVE_PYTHON = {
    "Dockerfile": "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\n"
    'COPY . ./\nCMD ["python", "main.py"]\n',
    "requirements.txt": "apify>=4.1,<5\n",
    "main.py": _PYTHON,
}


def verb_actor(language: str, runtime: str) -> dict[str, str]:
    """The files of the Actor in ``python`` or ``javascript``, to be built for ``process`` or ``docker``."""
    if language == "javascript":
        files = javascript(_JAVASCRIPT)
        return {**files, "Dockerfile": files["Dockerfile"].replace("apify/actor-node:20", NODE)}
    if runtime == "process":
        return _NATIVE_PYTHON
    # The stand-in image has the SDK: an Actor of it needs no package index.
    return {"Dockerfile": f'FROM {SDK}\nCOPY . ./\nCMD ["python", "main.py"]\n', "main.py": _PYTHON}

// The stock JavaScript client against a running server: every call of the life of a run, its storages and log.
// Arguments: URL, token, folder whose node_modules holds the client. Any failed assertion ends with exit code 1.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [url, token, folder] = process.argv.slice(2);
const { ApifyClient } = createRequire(`${folder}/`)('apify-client');
const client = new ApifyClient({ baseUrl: url, token, maxRetries: 2 });

const dockerfile = 'FROM apify/actor-python:3.11\nCOPY . ./\nCMD ["python", "-u", "main.py"]\n';
const code = `
import os, sys, time
os.write(1, b"ready\\n")
if os.environ.get("ACTOR_TIMEOUT_AT") is None:
    time.sleep(600)
`;

async function build(name, main) {
    const actor = await client.actors().create({
        name,
        versions: [{
            versionNumber: '0.0', sourceType: 'SOURCE_FILES', buildTag: 'latest',
            sourceFiles: [
                { name: 'Dockerfile', format: 'TEXT', content: dockerfile },
                { name: 'main.py', format: 'TEXT', content: main },
            ],
        }],
    });
    const started = await client.actor(actor.id).build('0.0');
    const built = await client.build(started.id).waitForFinish();
    assert.equal(built.status, 'SUCCEEDED', await client.log(built.id).get());
    assert.ok(built.startedAt instanceof Date);
    return actor;
}

async function until(act, wanted) {
    for (let n = 0; n < 600; n++) {
        const value = await act();
        if (wanted(value)) return value;
        await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    throw new Error(`waited for ${wanted}`);
}

const actor = await build('js-client', code);
const me = await client.user('me').get();
assert.ok(me.username);
assert.deepEqual((await client.actor(`${me.username}/js-client`).get()).id, actor.id);
assert.ok((await client.actors().list({ my: true })).items.some((item) => item.id === actor.id));
await client.actor(actor.id).update({ title: 'JavaScript client' });
await client.actor(actor.id).version('0.0').envVars().create({ name: 'FROM_CLIENT', value: 'x' });
assert.equal((await client.actor(actor.id).version('0.0').envVar('FROM_CLIENT').get()).value, 'x');

// Start, read, wait, list.
const input = { text: 'žluť 💛', long: 'x'.repeat(5000) };
const done = await client.actor(actor.id).call(input, { timeout: 600, memory: 256, waitSecs: 60, log: null });
assert.equal(done.status, 'SUCCEEDED');
assert.equal(done.exitCode, 0);
assert.equal(done.options.timeoutSecs, 600);
assert.equal(done.options.memoryMbytes, 256);
assert.ok(done.finishedAt >= done.startedAt);
assert.deepEqual((await client.run(done.id).keyValueStore().getRecord('INPUT')).value, input);
assert.equal((await client.actor(actor.id).lastRun().get()).id, done.id);
assert.equal((await client.actor(actor.id).lastRun({ status: 'ABORTED' }).get()), undefined);
assert.equal((await client.run('doesNotExist12345').get()), undefined);
await assert.rejects(client.actor(actor.id).start(input, { memory: 100 }), (error) => {
    assert.equal(error.statusCode, 400);
    assert.equal(error.type, 'invalid-request');
    return true;
});

// Abort gracefully, escalate, abort again, resurrect, abort at once.
const run = await client.actor(actor.id).start(undefined, { timeout: 0, memory: 128 });
await until(() => client.log(run.id).get(), (text) => text?.includes('ready'));
assert.equal((await client.run(run.id).abort({ gracefully: true })).status, 'ABORTING');
await client.run(run.id).abort({ gracefully: false });
const aborted = await client.run(run.id).waitForFinish({ waitSecs: 60 });
assert.equal(aborted.status, 'ABORTED');
assert.deepEqual(await client.run(run.id).abort(), aborted);
const resurrected = await client.run(run.id).resurrect({ memory: 256 });
assert.ok(['READY', 'RUNNING'].includes(resurrected.status));
await until(() => client.log(run.id).get(), (text) => text.split('ready').length === 3);
await assert.rejects(client.run(run.id).resurrect(), { statusCode: 400 });
await client.run(run.id).update({ statusMessage: 'from outside', isStatusMessageTerminal: true });
await client.actor(actor.id).lastRun().abort();
const again = await client.run(run.id).waitForFinish({ waitSecs: 60 });
assert.equal(again.status, 'ABORTED');
assert.equal(again.statusMessage, 'from outside');
assert.equal(again.stats.resurrectCount, 1);
const listed = await client.runs().list({ status: ['ABORTED', 'SUCCEEDED'], desc: true });
assert.ok(listed.items.length >= 2 && listed.items[0].id === run.id);

// The storages of the run, and some of our own.
const dataset = client.run(run.id).dataset();
await dataset.pushItems([{ n: 1, big: 12345678901234567n.toString() }, { n: 2 }]);
await until(() => dataset.listItems(), (page) => page.items.length === 2);
assert.deepEqual((await dataset.listItems({ desc: true, fields: ['n'] })).items, [{ n: 2 }, { n: 1 }]);
const store = client.run(run.id).keyValueStore();
await store.setRecord({ key: 'OUTPUT', value: Buffer.from([0, 255, 1]), contentType: 'application/octet-stream' });
assert.deepEqual([...(await store.getRecord('OUTPUT', { buffer: true })).value], [0, 255, 1]);
assert.deepEqual((await store.listKeys()).items.map((item) => item.key), ['OUTPUT']);
await store.deleteRecord('OUTPUT');
assert.equal(await store.getRecord('OUTPUT'), undefined);
const named = await client.requestQueues().getOrCreate('js-client');
const queue = client.requestQueue(named.id, { clientKey: 'a-client-key-1234' });
const added = await queue.batchAddRequests(Array.from({ length: 60 }, (_, n) => ({ url: `http://localhost/${n}`, uniqueKey: `${n}` })));
assert.equal(added.processedRequests.length, 60);
const locked = await queue.listAndLockHead({ limit: 25, lockSecs: 60 });
assert.equal(locked.items.length, 25);
await queue.updateRequest({ ...(await queue.getRequest(locked.items[0].id)), handledAt: new Date().toISOString() });
await queue.deleteRequestLock(locked.items[1].id, { forefront: true });
assert.equal((await queue.listHead({ limit: 100 })).items.length, 36);
assert.equal((await queue.get()).handledRequestCount, 1);
await queue.delete();

// What is gone is gone.
await client.run(run.id).delete();
assert.equal(await client.run(run.id).get(), undefined);
await client.actor(actor.id).delete();
assert.equal(await client.actor(actor.id).get(), undefined);
console.log('all calls answered as expected');

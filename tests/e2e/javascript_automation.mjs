// The stock JavaScript client: every call of webhooks, dispatches and schedules.
// Arguments: URL, token, folder whose node_modules holds the client, id of an Actor, id of a task, URL of a receiver.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [url, token, folder, actorId, taskId, receiver] = process.argv.slice(2);
const { ApifyClient } = createRequire(`${folder}/`)('apify-client');
const client = new ApifyClient({ baseUrl: url, token, maxRetries: 2 });

async function until(act, wanted) {
    for (let n = 0; n < 600; n++) {
        const value = await act();
        if (wanted(value)) return value;
        await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    throw new Error(`waited for ${wanted}`);
}

// Webhooks.
const made = await client.webhooks().create({
    eventTypes: ['ACTOR.RUN.CREATED', 'ACTOR.RUN.SUCCEEDED'],
    requestUrl: `${receiver}/js`,
    condition: { actorTaskId: taskId },
    payloadTemplate: '{"id": "{{resource.id}}"}',
    shouldInterpolateStrings: true,
    idempotencyKey: 'from-js',
});
assert.ok(made.createdAt instanceof Date);
assert.deepEqual(await client.webhook(made.id).get(), made);
assert.equal((await client.webhooks().create({ ...made, idempotencyKey: 'from-js' })).id, made.id);
assert.ok((await client.webhooks().list({ limit: 10, desc: true })).items.some((item) => item.id === made.id));
assert.deepEqual((await client.task(taskId).webhooks().list()).items.map((item) => item.id), [made.id]);
assert.deepEqual((await client.actor(actorId).webhooks().list()).items, []);
assert.equal((await client.webhook(made.id).update({ title: 'žluť', isEnabled: true })).title, 'žluť');
const tested = await client.webhook(made.id).test();
assert.equal(tested.status, 'ACTIVE');
const done = await until(() => client.webhookDispatch(tested.id).get(), (found) => found.status !== 'ACTIVE');
assert.equal(done.status, 'SUCCEEDED');
assert.equal(done.calls[0].responseStatus, 200);
const run = await client.task(taskId).start(undefined, {
    memory: 128,
    webhooks: [{ eventTypes: ['ACTOR.RUN.SUCCEEDED'], requestUrl: `${receiver}/js-ad-hoc` }],
});
assert.equal((await client.run(run.id).waitForFinish({ waitSecs: 60 })).status, 'SUCCEEDED');
const page = await until(
    () => client.webhook(made.id).dispatches().list({ desc: true }),
    ({ items }) => items.length === 3 && items.every((item) => item.status === 'SUCCEEDED'),
);
assert.deepEqual(page.items.map((item) => item.eventType), ['ACTOR.RUN.SUCCEEDED', 'ACTOR.RUN.CREATED', 'TEST']);
assert.equal(page.items[0].eventData.actorRunId, run.id);
await until(
    () => client.webhookDispatches().list({ limit: 1000 }),
    ({ items }) => items.some((item) => item.webhook.isAdHoc && item.status === 'SUCCEEDED' && item.eventData?.actorRunId === run.id),
);
await client.webhook(made.id).delete();
assert.equal(await client.webhook(made.id).get(), undefined);
await assert.rejects(client.webhooks().create({ eventTypes: ['X'], requestUrl: receiver, condition: { actorId } }), {
    statusCode: 400, type: 'schema-validation',
});

// Schedules.
const schedule = await client.schedules().create({
    name: 'from-js',
    cronExpression: '@hourly',
    timezone: 'America/New_York',
    isEnabled: true,
    isExclusive: true,
    actions: [{ type: 'RUN_ACTOR_TASK', actorTaskId: taskId, input: '{"a": 1}' }],
});
assert.ok(schedule.nextRunAt instanceof Date);
assert.deepEqual(await client.schedule(schedule.id).get(), schedule);
assert.ok((await client.schedules().list()).items.some((item) => item.id === schedule.id));
const disabled = await client.schedule(schedule.id).update({ isEnabled: false, title: 'Other' });
assert.equal(disabled.nextRunAt, null);
assert.equal(disabled.title, 'Other');
assert.deepEqual(await client.schedule(schedule.id).getLog(), []);
await assert.rejects(client.schedule(schedule.id).update({ cronExpression: 'x' }), { type: 'cron-expression-invalid' });
await client.schedule(schedule.id).delete();
assert.equal(await client.schedule(schedule.id).get(), undefined);
console.log('all calls answered as expected');

// The stock JavaScript client: every method of every resource but the storages; none of a new version is forgotten.
// Arguments: URL, token, folder whose node_modules holds the client, id of an Actor whose runs wait as input says.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [url, token, folder, actorId] = process.argv.slice(2);
const clients = createRequire(`${folder}/`)('apify-client');
const called = new Set();

// A client that is used like `target`, and writes down which methods were called of it and of those it gives.
function recorded(target) {
    return new Proxy(target, {
        get(_, name) {
            const found = target[name];
            if (typeof found !== 'function' || typeof name !== 'string') return found;
            return (...args) => {
                called.add(`${target.constructor.name}.${name}`);
                const value = found.apply(target, args);
                return value?.constructor?.name?.endsWith('Client') ? recorded(value) : value;
            };
        },
    });
}

function clientOf(itsToken) {
    return recorded(new clients.ApifyClient({ baseUrl: url, token: itsToken, maxRetries: 0 }));
}

async function until(act, wanted) {
    for (let n = 0; n < 1200; n++) {
        const value = await act();
        if (wanted(value)) return value;
        await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    throw new Error(`waited for ${wanted}`);
}

async function listed(pages) {
    const found = [];
    for await (const item of pages) found.push(item.id ?? item.name ?? item.versionNumber);
    return found;
}

const client = clientOf(token);
const actor = client.actor(actorId);

// Actors, versions, variables.
const made = await client.actors().create({ name: 'js-methods-2', title: 'Two', isPublic: false });
const second = client.actor(made.id);
assert.deepEqual(await second.get(), made);
assert.ok((await listed(client.actors().list({ my: true, sortBy: 'stats.lastRunStartedAt' }))).includes(made.id));
assert.equal((await second.update({ seoTitle: 'S', defaultRunOptions: { memoryMbytes: 256 } })).seoTitle, 'S');
const version = await second.versions().create({ versionNumber: '0.1', sourceType: 'SOURCE_FILES', sourceFiles: [] });
assert.deepEqual(await second.version('0.1').get(), version);
assert.equal((await second.version('0.1').update({ buildTag: 'beta' })).buildTag, 'beta');
assert.deepEqual(await listed(second.versions().list()), ['0.1']);
const variables = second.version('0.1').envVars();
await variables.create({ name: 'A', value: '1', isSecret: true });
assert.deepEqual(await listed(variables.list()), ['A']);
assert.deepEqual(await second.version('0.1').envVar('A').get(), { name: 'A', isSecret: true });
assert.equal((await second.version('0.1').envVar('A').update({ name: 'B', value: '2' })).name, 'B');
await second.version('0.1').envVar('B').delete();
assert.equal(await second.version('0.1').envVar('B').get(), undefined);
await second.version('0.1').delete();
await second.delete();
assert.equal(await second.get(), undefined);

// Builds.
const build = client.build((await actor.build('0.0', { tag: 'js', useCache: true, waitForFinish: 1 })).id);
const built = await build.waitForFinish();
assert.equal(built.status, 'SUCCEEDED', await build.log().get());
assert.deepEqual(await build.get(), built);
assert.deepEqual(await build.abort(), built);
assert.equal((await build.getOpenApiDefinition()).info['x-build-id'], built.id);
assert.ok((await listed(actor.builds().list({ desc: true }))).includes(built.id));
assert.ok((await listed(client.builds().list({ limit: 100, desc: true }))).includes(built.id));
assert.notEqual((await (await actor.defaultBuild()).get()).id, built.id);
await build.delete();
assert.equal(await build.get(), undefined);

// Runs, logs, charges.
assert.equal(await actor.validateInput({ wait: true }), true);
await assert.rejects(actor.validateInput({ wait: 5 }), { type: 'invalid-input' });
const done = await actor.call({}, { memory: 128, log: null });
assert.equal(done.status, 'SUCCEEDED');
const run = client.run(done.id);
assert.deepEqual(await run.get(), done);
assert.equal((await actor.lastRun({ status: 'SUCCEEDED' }).get()).id, done.id);
assert.equal((await run.dataset().get()).id, done.defaultDatasetId);
assert.equal((await run.keyValueStore().get()).id, done.defaultKeyValueStoreId);
assert.equal((await run.requestQueue().get()).id, done.defaultRequestQueueId);
assert.ok((await listed(actor.runs().list({ status: 'SUCCEEDED' }))).includes(done.id));
assert.ok((await listed(client.runs().list({ limit: 100, desc: true, startedAfter: done.startedAt }))).includes(done.id));
assert.equal(await client.log(done.id).get(), await run.log().get());
let streamed = '';
for await (const chunk of await run.log().stream({ raw: true })) streamed += chunk;
assert.match(streamed, /ready/);
assert.equal((await run.update({ statusMessage: 'Done' })).statusMessage, 'Done');
const live = client.run((await actor.start({ wait: true }, { memory: 128 })).id);
const readyTimes = (times) => until(() => live.log().get(), (text) => (text ?? '').split('ready').length === times + 1);
await readyTimes(1);
const own = (await live.keyValueStore().getRecord('TOKEN')).value;
await clientOf(own).run((await live.get()).id).charge({ eventName: 'seen', count: 2 });
assert.deepEqual((await live.get()).chargedEventCounts, { seen: 2 });
process.env.ACTOR_RUN_ID = (await live.get()).id;
await client.setStatusMessage('from the client', { isStatusMessageTerminal: false });
assert.equal((await live.get()).statusMessage, 'from the client');
const redirected = await live.getStreamedLog({ fromStart: true, toLog: null });
redirected?.start();
await live.reboot();
await readyTimes(2);
await live.metamorph(actorId, { wait: true });
await readyTimes(3);
await live.abort();
assert.equal((await live.waitForFinish()).status, 'ABORTED');
await redirected?.stop();
assert.equal((await live.resurrect({ memory: 256 })).options.memoryMbytes, 256);
await live.abort();
await live.waitForFinish();
await live.delete();
assert.equal(await live.get(), undefined);

// Tasks.
const task = client.task((await client.tasks().create({ actId: actorId, name: 'js-methods-task', input: { wait: false } })).id);
assert.equal((await task.get()).name, 'js-methods-task');
assert.ok((await listed(client.tasks().list({ desc: true }))).includes((await task.get()).id));
await assert.rejects(task.publish(), { statusCode: 400, type: 'cannot-publish-actor-task' });
const publicConfig = { seoDescription: 'D', inputSchemaFields: ['wait'], datasetView: 'all' };
assert.equal((await task.update({ description: 'D', publicConfig })).publicConfig.datasetView, 'all');
const published = await task.publish();
assert.equal(published.isPublic, true);
assert.ok(published.publicConfig.publishedAt instanceof Date);
assert.equal((await task.unpublish()).isPublic, false);
assert.deepEqual(await task.updateInput({ more: 1 }), { wait: false, more: 1 });
assert.deepEqual(await task.getInput(), { wait: false, more: 1 });
const started = await task.start({}, { memory: 128 });
await client.run(started.id).waitForFinish();
const ended = await task.call({ more: 2 }, { memory: 128 });
assert.equal(ended.status, 'SUCCEEDED');
assert.equal((await task.lastRun().get()).id, ended.id);
assert.deepEqual(await listed(task.runs().list()), [started.id, ended.id]);
assert.deepEqual(await listed(task.webhooks().list()), []);
await task.delete();
assert.equal(await task.get(), undefined);

// Webhooks, schedules.
const hook = await client.webhooks().create({
    eventTypes: ['ACTOR.RUN.FAILED'], requestUrl: 'http://127.0.0.1:9/', condition: { actorId }, doNotRetry: true,
});
assert.deepEqual(await client.webhook(hook.id).get(), hook);
assert.ok((await listed(client.webhooks().list())).includes(hook.id));
assert.deepEqual(await listed(actor.webhooks().list()), [hook.id]);
assert.equal((await client.webhook(hook.id).update({ title: 'T' })).title, 'T');
const dispatch = await client.webhook(hook.id).test();
assert.equal((await client.webhookDispatch(dispatch.id).get()).webhookId, hook.id);
assert.deepEqual(await listed(client.webhook(hook.id).dispatches().list()), [dispatch.id]);
assert.ok((await listed(client.webhookDispatches().list({ desc: true }))).includes(dispatch.id));
await client.webhook(hook.id).delete();
const schedule = await client.schedules().create({
    name: 'js-methods', cronExpression: '@yearly', isEnabled: false, isExclusive: true, actions: [],
});
assert.deepEqual(await client.schedule(schedule.id).get(), schedule);
assert.ok((await listed(client.schedules().list())).includes(schedule.id));
assert.equal((await client.schedule(schedule.id).update({ timezone: 'Asia/Tokyo' })).timezone, 'Asia/Tokyo');
assert.deepEqual(await client.schedule(schedule.id).getLog(), []);
await client.schedule(schedule.id).delete();

// Users, store.
const me = client.user('me');
assert.ok((await me.get()).plan);
assert.ok((await me.monthlyUsage()).usageCycle.startAt instanceof Date);
const { limits } = await me.limits();
await me.updateLimits({ dataRetentionDays: limits.dataRetentionDays });
assert.deepEqual((await me.limits()).limits, limits);
assert.deepEqual(await listed(client.store().list({ search: 'js-methods', sortBy: 'newest' })), [actorId]);

const storages = /^(Dataset|KeyValueStore|RequestQueue)|^ApifyClient\.(dataset|keyValueStore|requestQueue)/;
const forgotten = Object.entries(clients)
    .filter(([name, found]) => name.endsWith('Client') && typeof found === 'function')
    .flatMap(([name, found]) => Object.getOwnPropertyNames(found.prototype).map((method) => `${name}.${method}`))
    .filter((method) => !/\.(constructor|_.*)$/.test(method) && !storages.test(method) && !called.has(method));
assert.deepEqual(forgotten, []);
console.log('all calls answered as expected');

// Every method and option of the stock JavaScript client's request queues.
import assert from 'node:assert/strict';

import { absent, all, anonymous, checkCommon, client, refused, runs } from './common.mjs';

await checkCommon(() => client.requestQueues(), (id) => client.requestQueue(id), (id) => anonymous.requestQueue(id));

const request = (key, more = {}) => ({ url: `http://site/${key}`, uniqueKey: `${key}`, ...more });
const keys = (items) => items.map((item) => item.uniqueKey);
const range = (from, to) => Array.from({ length: to - from }, (_, n) => `${from + n}`);
const { id } = await client.requestQueues().getOrCreate();
const queue = client.requestQueue(id, { clientKey: 'the-first-client', timeoutSecs: 20 });
const other = client.requestQueue(id, { clientKey: 'the-second-client' });
const idOf = {};

// Adding: one by one, at both ends, twice.
const full = request('full', {
    method: 'POST',
    payload: '{"a": 1}',
    headers: { 'X-A': 'b' },
    userData: { deep: [{ x: null }], __crawlee: { state: 4 } },
    retryCount: 3,
    noRetry: true,
    errorMessages: ['first'],
    loadedUrl: 'http://site/loaded',
});
const added = await queue.addRequest(full);
assert.deepEqual([added.wasAlreadyPresent, added.wasAlreadyHandled], [false, false]);
const { id: givenId, ...stored } = await queue.getRequest(added.requestId);
assert.equal(givenId, added.requestId);
assert.deepEqual(stored, full);
assert.equal(await queue.getRequest('absent'), undefined);
const twin = await queue.addRequest(request('full', { userData: {} }), { forefront: true });
assert.deepEqual([twin.requestId, twin.wasAlreadyPresent], [added.requestId, true]);
await queue.addRequest(request('front'), { forefront: true });
await queue.addRequest(request('back'), { forefront: false });
const head = await queue.listHead({ limit: 2 });
assert.deepEqual(keys(head.items), ['front', 'full']);
assert.deepEqual([head.limit, head.hadMultipleClients], [2, false]);
assert.ok(head.queueModifiedAt instanceof Date);
assert.equal((await queue.listHead()).items.length, 3);

// Batches of any length, with every option.
const options = {
    forefront: false,
    maxParallel: 1,
    maxUnprocessedRequestsRetries: 2,
    minDelayBetweenUnprocessedRequestsRetriesMillis: 10,
};
const batch = await queue.batchAddRequests(range(0, 60).map((key) => request(key)), options);
assert.deepEqual(keys(batch.processedRequests), range(0, 60));
assert.deepEqual(batch.unprocessedRequests, []);
for (const one of batch.processedRequests) idOf[one.uniqueKey] = one.requestId;
assert.deepEqual(keys((await queue.listHead({ limit: 100 })).items), ['front', 'full', 'back', ...range(0, 60)]);
await queue.batchAddRequests([request('f1'), request('f2')], { forefront: true });
assert.deepEqual(keys((await queue.listHead({ limit: 3 })).items), ['f2', 'f1', 'front']);
const parallel = await queue.batchAddRequests(range(60, 260).map((key) => request(key)), { maxParallel: 5 });
assert.deepEqual(new Set(keys(parallel.processedRequests)), new Set(range(60, 260)));
const gone = await queue.batchDeleteRequests([...range(60, 84).map((uniqueKey) => ({ uniqueKey })), { id: 'absent' }]);
assert.equal(gone.processedRequests.length, 25);
for (let n = 84; n < 260; n += 22) {
    await queue.batchDeleteRequests(range(n, n + 22).map((uniqueKey) => ({ uniqueKey })));
}
assert.equal((await queue.get()).totalRequestCount, 65);
for (const key of ['f2', 'f1', 'front', 'full', 'back']) await queue.batchDeleteRequests([{ uniqueKey: key }]);

// Updating and deleting.
const first = await queue.getRequest(idOf[0]);
const handledAt = new Date().toISOString();
assert.equal((await queue.updateRequest({ ...first, handledAt })).wasAlreadyHandled, false);
assert.equal((await queue.updateRequest({ ...first, handledAt })).wasAlreadyHandled, true);
assert.equal((await queue.getRequest(idOf[0])).handledAt.toISOString(), handledAt);
assert.equal((await queue.updateRequest(first, { forefront: true })).wasAlreadyHandled, true);
assert.deepEqual(keys((await queue.listHead({ limit: 2 })).items), ['0', '1']);
await queue.updateRequest(first, { forefront: false });
assert.deepEqual(keys((await queue.listHead({ limit: 100 })).items), [...range(1, 60), '0']);
await queue.deleteRequest(idOf[0]);
await refused(queue.deleteRequest(idOf[0]), 404, 'record-not-found');
await refused(queue.updateRequest({ ...first, id: idOf[1] }), 400, 'request-id-invalid');
const upserted = await queue.updateRequest(first);
assert.deepEqual([upserted.wasAlreadyPresent, upserted.wasAlreadyHandled], [false, false]);
await queue.deleteRequest(idOf[0]);

// Locks.
const before = Date.now();
const locked = await queue.listAndLockHead({ lockSecs: 60, limit: 3 });
assert.deepEqual(keys(locked.items), range(1, 4));
assert.deepEqual([locked.limit, locked.lockSecs, locked.clientKey], [3, 60, 'the-first-client']);
assert.ok(locked.queueHasLockedRequests);
assert.ok(locked.items.every((item) => item.lockExpiresAt > before + 30_000 && item.lockExpiresAt < before + 120_000));
const theirs = await other.listAndLockHead({ lockSecs: 60 });
assert.deepEqual(keys(theirs.items), range(4, 29));
assert.ok(theirs.hadMultipleClients);
const longer = await queue.prolongRequestLock(idOf[1], { lockSecs: 300, forefront: true });
assert.ok(longer.lockExpiresAt > before + 240_000);
await refused(other.prolongRequestLock(idOf[1], { lockSecs: 60 }), 400, 'request-handled-or-locked');
await refused(other.deleteRequestLock(idOf[1]), 400, 'request-handled-or-locked');
await queue.deleteRequestLock(idOf[1]);
await queue.deleteRequestLock(idOf[2], { forefront: true });
assert.deepEqual(keys((await other.listHead({ limit: 100 })).items), ['2', ...range(29, 60), '1']);
// Reclaiming as crawlers do it: an update, then the lock once more.
await queue.updateRequest(await queue.getRequest(idOf[3]));
await queue.deleteRequestLock(idOf[3], { forefront: true });
assert.equal(keys((await other.listHead({ limit: 1 })).items)[0], '3');
assert.equal((await other.unlockRequests()).unlockedCount, 25);
assert.equal((await queue.unlockRequests()).unlockedCount, 0);

// Lists, pages, filters.
const whole = await queue.listRequests();
assert.equal(whole.items.length, 59);
assert.deepEqual([whole.limit, whole.nextCursor, whole.exclusiveStartId], [10_000, undefined, undefined]);
const order = keys(whole.items);
const page = await queue.listRequests({ limit: 10 });
assert.deepEqual(keys(page.items), order.slice(0, 10));
const next = await queue.listRequests({ limit: 10, cursor: page.nextCursor });
assert.deepEqual([keys(next.items), next.cursor], [order.slice(10, 20), page.nextCursor]);
const byId = await queue.listRequests({ limit: 5, exclusiveStartId: page.items[9].id });
assert.deepEqual(keys(byId.items), order.slice(10, 15));
await queue.listAndLockHead({ lockSecs: 60, limit: 4 });
assert.equal((await queue.listRequests({ filter: ['locked'] })).items.length, 4);
assert.equal((await queue.listRequests({ filter: ['pending', 'locked'] })).items.length, 59);
assert.deepEqual(keys(await all(queue.listRequests())), order);
assert.deepEqual(keys(await all(queue.listRequests({ limit: 15 }))), order.slice(0, 15));
assert.deepEqual(keys(await all(queue.listRequests({ exclusiveStartId: page.items[9].id }))), order.slice(10));
const pages = await all(queue.paginateRequests({ maxPageLimit: 20 }));
assert.deepEqual(pages.map((one) => one.items.length).filter(Boolean), [20, 20, 19]);
assert.deepEqual(pages.flatMap((one) => keys(one.items)), order);
const few = await all(queue.paginateRequests({ limit: 25, maxPageLimit: 10, exclusiveStartId: page.items[9].id }));
assert.deepEqual(few.flatMap((one) => keys(one.items)), order.slice(10, 35));
const after = await all(queue.paginateRequests({ maxPageLimit: 30, cursor: page.nextCursor }));
assert.deepEqual(after.flatMap((one) => keys(one.items)), order.slice(10));
assert.equal((await all(queue.paginateRequests({ filter: ['locked'], maxPageLimit: 2 }))).flatMap((p) => p.items).length, 4);

// Counts, and what is missing.
const info = await queue.get();
assert.deepEqual([info.totalRequestCount, info.handledRequestCount, info.pendingRequestCount], [59, 0, 59]);
assert.equal(info.hadMultipleClients, true);
const nowhere = client.requestQueue(absent);
assert.equal(await nowhere.getRequest(idOf[1]), undefined);
for (const call of [
    () => nowhere.listHead(),
    () => nowhere.listRequests(),
    () => nowhere.addRequest(request('1')),
    () => nowhere.batchDeleteRequests([{ uniqueKey: '1' }]),
    () => nowhere.listAndLockHead({ lockSecs: 1 }),
    () => nowhere.unlockRequests(),
]) await refused(call(), 404, 'record-not-found');

// The run's queue.
for (const [n, run] of runs.entries()) {
    const ofRun = run.requestQueue();
    await ofRun.addRequest(request(`run-${n}`), { forefront: true });
    assert.equal(keys((await ofRun.listHead({ limit: 1 })).items)[0], `run-${n}`);
    assert.equal((await ofRun.batchAddRequests([request('a'), request('b')])).processedRequests.length, 2);
    const [item] = (await ofRun.listAndLockHead({ lockSecs: 60, limit: 1 })).items;
    await ofRun.updateRequest({ ...(await ofRun.getRequest(item.id)), handledAt: new Date().toISOString() });
    assert.equal((await ofRun.get()).handledRequestCount, n + 1);
    assert.equal((await all(ofRun.listRequests())).length, n + 3);
    assert.equal((await ofRun.update({ title: 'T' })).title, 'T');
}
console.log('all calls answered as expected');

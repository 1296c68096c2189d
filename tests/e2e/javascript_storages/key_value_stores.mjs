// Every method and option of the stock JavaScript client's key-value stores.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';

import { absent, all, anonymous, checkCommon, client, refused, runs } from './common.mjs';

await checkCommon(
    () => client.keyValueStores(),
    (id) => client.keyValueStore(id),
    (id) => anonymous.keyValueStore(id),
);

const created = await client.keyValueStores().getOrCreate();
const store = client.keyValueStore(created.id);
const json = 'application/json; charset=utf-8';
const text = 'text/plain; charset=utf-8';
const bytes = 'application/octet-stream';
const binary = randomBytes(300_000);

// Values of every kind, read parsed, as bytes and as a stream.
for (const [value, contentType, storedType, parsed] of [
    [{ a: [1, null, 'é'] }, undefined, json, { a: [1, null, 'é'] }],
    [{ long: 'compressed '.repeat(1000) }, undefined, json, { long: 'compressed '.repeat(1000) }],
    [null, undefined, json, null],
    [12.5, undefined, json, 12.5],
    [true, undefined, json, true],
    ['héllo', undefined, text, 'héllo'],
    ['x'.repeat(5000), undefined, text, 'x'.repeat(5000)],
    ['<a>é</a>', 'application/xml', 'application/xml', '<a>é</a>'],
    ['{"n": 1}', 'application/json', 'application/json', { n: 1 }],
    ['<script>1</script>', 'text/html; charset=utf-8', 'text/html; charset=utf-8', '<script>1</script>'],
    [Buffer.from([0, 255, 1]), undefined, bytes, Buffer.from([0, 255, 1])],
    [binary, 'image/png', 'image/png', binary],
]) {
    await store.setRecord({ key: 'Key', value, contentType }, { timeoutSecs: 20, doNotRetryTimeouts: true });
    const found = await store.getRecord('Key');
    assert.deepEqual([found.key, found.contentType], ['Key', storedType]);
    assert.deepEqual(found.value, parsed);
    const whole = (await store.getRecord('Key', { buffer: true })).value;
    assert.ok(Buffer.isBuffer(whole));
    assert.deepEqual(await buffer((await store.getRecord('Key', { stream: true })).value), whole);
    if (typeof value === 'string') assert.equal(whole.toString(), value);
    assert.equal(await store.recordExists('Key'), true);
}
await store.setRecord({ key: 'Stream', value: Readable.from([Buffer.from('one '), Buffer.from('two')]) });
assert.equal((await store.getRecord('Stream')).value.toString(), 'one two');
assert.equal((await store.getRecord('Stream')).contentType, bytes);

// What is missing, replaced, deleted.
assert.equal(await store.getRecord('absent'), undefined);
assert.equal(await store.recordExists('absent'), false);
await store.deleteRecord('absent');
assert.equal(await client.keyValueStore(absent).getRecord('K'), undefined);
assert.equal(await client.keyValueStore(absent).recordExists('K'), false);
await refused(client.keyValueStore(absent).setRecord({ key: 'K', value: 1 }), 404, 'record-not-found');
await refused(client.keyValueStore(absent).listKeys(), 404, 'record-not-found');
await refused(store.setRecord({ key: 'a~b', value: 1 }), 400, 'invalid-record-key');
for (const key of ['Key', 'Stream']) await store.deleteRecord(key);
assert.deepEqual((await store.listKeys()).items, []);

// Listing keys.
const keys = ['B', "a'b(1).txt", 'a-1', 'a-2', 'b', 'z'];
for (const key of keys.toReversed()) await store.setRecord({ key, value: key });
const names = (items) => items.map((item) => item.key);
const page = await store.listKeys();
assert.deepEqual(names(page.items), keys);
assert.deepEqual(page.items.map((item) => item.size), keys.map((key) => key.length));
assert.deepEqual([page.count, page.limit, page.isTruncated, page.nextExclusiveStartKey], [6, 1000, false, null]);
const second = await store.listKeys({ limit: 2, exclusiveStartKey: 'B' });
assert.deepEqual(names(second.items), keys.slice(1, 3));
assert.deepEqual([second.exclusiveStartKey, second.isTruncated, second.nextExclusiveStartKey], ['B', true, 'a-1']);
assert.deepEqual(names((await store.listKeys({ prefix: 'a-' })).items), ['a-1', 'a-2']);
await refused(store.listKeys({ collection: 'none' }), 400, 'invalid-collection');
assert.deepEqual(names(await all(store.listKeys())), keys);
assert.deepEqual(names(await all(store.listKeys({ limit: 4 }))), keys.slice(0, 4));
assert.deepEqual(names(await all(store.listKeys({ prefix: 'a-', exclusiveStartKey: 'a-1' }))), ['a-2']);
for (let n = 0; n < 1100; n += 100) {
    await Promise.all(Array.from({ length: 100 }, (_, i) => store.setRecord({ key: `many-${n + i}`, value: 1 })));
}
assert.equal((await all(store.listKeys({ prefix: 'many-' }))).length, 1100);
assert.equal((await all(store.listKeys({ prefix: 'many-', limit: 1050 }))).length, 1050);

// Public addresses and signatures.
for (const key of keys) {
    const listed = page.items.find((item) => item.key === key).recordPublicUrl;
    for (const address of [listed, await store.getRecordPublicUrl(key)]) {
        assert.equal(await (await fetch(address)).text(), key);
    }
}
const listing = async (options) => (await (await fetch(await store.createKeysPublicUrl(options))).json()).data.items;
assert.deepEqual(names(await listing({ prefix: 'a-', limit: 1, expiresInSecs: 60 })), ['a-1']);
assert.deepEqual(names(await listing({ exclusiveStartKey: 'many-999' })), ['z']);
assert.equal((await fetch(await store.createKeysPublicUrl({ expiresInSecs: -1 }))).status, 403);
assert.equal((await fetch(created.keysPublicUrl)).status, 200);
const shared = anonymous.keyValueStore(created.id);
const ofKeys = new URL(await store.createKeysPublicUrl()).searchParams.get('signature');
const ofRecord = new URL(await store.getRecordPublicUrl('z')).searchParams.get('signature');
assert.deepEqual(names((await shared.listKeys({ signature: ofKeys, limit: 1 })).items), ['B']);
assert.equal((await shared.getRecord('z', { signature: ofRecord })).value, 'z');
await refused(shared.getRecord('z'), 403, 'insufficient-permissions');
await refused(shared.getRecord('B', { signature: ofRecord }), 403, 'insufficient-permissions');
await refused(shared.listKeys({ signature: ofRecord }), 403, 'insufficient-permissions');
await refused(shared.setRecord({ key: 'z', value: 'mine' }), 401, 'token-not-provided');

// The run's store.
for (const run of runs) {
    const ofRun = run.keyValueStore();
    assert.deepEqual((await ofRun.getRecord('INPUT')).value, { text: 'input' });
    await ofRun.setRecord({ key: 'OUTPUT', value: { done: true } });
    assert.equal(await ofRun.recordExists('OUTPUT'), true);
    assert.deepEqual(names((await ofRun.listKeys({ exclusiveStartKey: 'INPUT' })).items), ['OUTPUT']);
    await ofRun.deleteRecord('OUTPUT');
    assert.equal(await ofRun.getRecord('OUTPUT'), undefined);
    assert.equal((await ofRun.update({ title: 'T' })).title, 'T');
}
console.log('all calls answered as expected');

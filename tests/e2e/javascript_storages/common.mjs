// What the scripts of this folder share. Arguments of each: URL, token, folder whose node_modules holds the client,
// id of an Actor, id of its last run. Any failed assertion ends with exit code 1.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [url, token, folder, actorId, runId] = process.argv.slice(2);
const { ApifyClient } = createRequire(`${folder}/`)('apify-client');
const options = { baseUrl: url, publicBaseUrl: url, maxRetries: 0 };

export { url, runId };
export const client = new ApifyClient({ ...options, token });
export const anonymous = new ApifyClient(options);
export const absent = 'A'.repeat(17);

/** Clients of the run, reached in every way: by its id, as the Actor's last one, as the last one that matches. */
export const runs = [
    client.run(runId),
    client.actor(actorId).lastRun(),
    client.actor(actorId).lastRun({ status: 'SUCCEEDED', origin: 'API' }),
];

export const ids = (items) => items.map((item) => item.id);

export async function all(iterable) {
    const found = [];
    for await (const item of iterable) found.push(item);
    return found;
}

export async function refused(promise, statusCode, type) {
    await assert.rejects(promise, (error) => {
        assert.equal(error.statusCode, statusCode, error.message);
        assert.equal(error.type, type);
        return true;
    });
}

/** The collection of a kind, and one storage of it: everything the three kinds have in common. */
export async function checkCommon(collection, one, anonymousOne) {
    const name = `js-${Math.random().toString(36).slice(2)}`;
    const created = await collection().getOrCreate(name);
    assert.equal(created.name, name);
    assert.ok(created.createdAt instanceof Date && created.modifiedAt instanceof Date);
    assert.equal((await collection().getOrCreate(name.toUpperCase())).id, created.id);
    const unnamed = await collection().getOrCreate();
    assert.equal(unnamed.name ?? null, null);
    await refused(collection().getOrCreate('a_b'), 400, 'invalid-value');

    const newest = await collection().list({ unnamed: true, desc: true, limit: 2 });
    assert.deepEqual(ids(newest.items), [unnamed.id, created.id]);
    assert.equal(newest.items[0].name, null);
    assert.ok(newest.items[0].stats);
    assert.deepEqual([newest.limit, newest.offset, newest.count, newest.desc, newest.unnamed], [2, 0, 2, true, true]);
    assert.ok(newest.total >= 2);
    const second = await collection().list({ unnamed: true, desc: true, limit: 1, offset: 1 });
    assert.deepEqual(ids(second.items), [created.id]);
    assert.ok(!ids((await collection().list({ limit: 0 })).items).includes(unnamed.id));
    assert.ok(ids((await collection().list({ desc: false, unnamed: true })).items).includes(unnamed.id));
    assert.equal((await collection().list({ ownership: 'sharedWithMe', unnamed: true })).total, 0);
    assert.ok(ids((await collection().list({ ownership: 'ownedByMe' })).items).includes(created.id));
    const everything = ids(await all(collection().list({ unnamed: true })));
    assert.equal(new Set(everything).size, newest.total);
    const backwards = ids(await all(collection().list({ unnamed: true, desc: true })));
    assert.deepEqual(backwards, everything.toReversed());
    assert.deepEqual(ids(await all(collection().list({ unnamed: true, desc: true, limit: 2 }))), ids(newest.items));

    const { username } = await client.user('me').get();
    for (const reference of [created.id, `${username}/${name}`, `${username}~${name}`, `~${name}`]) {
        assert.equal((await one(reference).get()).id, created.id, reference);
    }
    for (const reference of [absent, name, `~${name}x`]) assert.equal(await one(reference).get(), undefined, reference);
    const changed = await one(created.id).update({ name: `${name}-2`, title: 'A title', generalAccess: 'RESTRICTED' });
    assert.deepEqual([changed.name, changed.title, changed.generalAccess], [`${name}-2`, 'A title', 'RESTRICTED']);
    await refused(anonymousOne(created.id).get(), 403, 'insufficient-permissions');
    await one(created.id).update({ generalAccess: 'ANYONE_WITH_ID_CAN_READ' });
    assert.equal((await anonymousOne(created.id).get()).urlSigningSecretKey, undefined);
    assert.equal((await one(created.id).update({ name: null })).name, null);
    assert.equal(await one(`~${name}-2`).get(), undefined);
    await collection().getOrCreate(name);
    await refused(one(created.id).update({ name }), 409, 'name-not-unique');
    for (const gone of [one(`~${name}`), one(created.id), one(unnamed.id)]) {
        await gone.delete();
        assert.equal(await gone.get(), undefined);
        await gone.delete();
    }
}

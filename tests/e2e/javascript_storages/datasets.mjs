// Every method and option of the stock JavaScript client's datasets.
import assert from 'node:assert/strict';

import { absent, all, anonymous, checkCommon, client, refused, runs, url } from './common.mjs';

await checkCommon(() => client.datasets(), (id) => client.dataset(id), (id) => anonymous.dataset(id));

const items = [
    { a: 1, '#h': 1, tags: [{ t: 'x' }, { t: 'y' }], o: { p: { q: 1 } } },
    {},
    { '#h': 2 },
    { a: 4, b: 'žluť, 💛' },
];
const schema = {
    actorSpecification: 1,
    fields: { type: 'object', properties: { a: { type: 'number' }, b: { type: 'string' } } },
    views: {
        letters: {
            title: 'Letters',
            transformation: { fields: ['b', 'a'], desc: true, clean: true },
            display: { component: 'table' },
        },
    },
};
const created = await client.datasets().getOrCreate(undefined, { schema });
const dataset = client.dataset(created.id);

// Pushing: objects, arrays, texts, bodies large enough to be compressed.
await dataset.pushItems(items[0]);
await dataset.pushItems([items[1], items[2]]);
await dataset.pushItems(JSON.stringify(items[3]));
await dataset.pushItems([]);
const info = await dataset.get();
assert.deepEqual([info.itemCount, info.cleanItemCount], [4, 2]);
assert.deepEqual(info.schema, schema);
await assert.rejects(dataset.pushItems([{ a: 'one' }]), ({ type, data }) => {
    assert.equal(type, 'schema-validation-error');
    assert.equal(data.invalidItems[0].itemPosition, 0);
    assert.equal(data.invalidItems[0].validationErrors[0].instancePath, '/0/a');
    return true;
});
await refused(dataset.pushItems('[1]'), 400, 'invalid-request');
await refused(client.dataset(absent).pushItems({}), 404, 'record-not-found');
const wide = client.dataset((await client.datasets().getOrCreate()).id);
await wide.pushItems(Array.from({ length: 500 }, (_, n) => ({ n, pad: 'compressed '.repeat(20) })));
await wide.pushItems('[{"n": 500}, {"n": 501}]');
assert.deepEqual((await wide.listItems({ fields: ['n'] })).items, Array.from({ length: 502 }, (_, n) => ({ n })));
await refused(wide.pushItems({ big: 'x'.repeat(9_500_000) }), 413, 'request-too-large');

// Reading in every window and shape: as pages, as an iteration, as a download, at a public address.
const cases = [
    [{}, items],
    [{ offset: 1, limit: 2 }, items.slice(1, 3)],
    [{ offset: 9 }, []],
    [{ limit: 0 }, items],
    [{ desc: true, limit: 3 }, items.toReversed().slice(0, 3)],
    [{ clean: true }, [{ a: 1, tags: items[0].tags, o: items[0].o }, items[3]]],
    [{ fields: ['a'], clean: false }, [{ a: 1 }, {}, {}, { a: 4 }]],
    [{ fields: ['b', 'a'], skipEmpty: true }, [{ a: 1 }, { b: 'žluť, 💛', a: 4 }]],
    [{ omit: ['tags', 'o', '#h'] }, [{ a: 1 }, {}, {}, items[3]]],
    [{ unwind: ['tags'], fields: ['a', 't'], limit: 1 }, [{ a: 1, t: 'x' }, { a: 1, t: 'y' }]],
    [{ unwind: 'tags', fields: ['t'], skipEmpty: true }, [{ t: 'x' }, { t: 'y' }]],
    [{ skipHidden: true, fields: ['#h', 'a'] }, [{ a: 1 }, {}, {}, { a: 4 }]],
    [{ flatten: ['o'], fields: ['o.p.q'], limit: 1 }, [{ 'o.p.q': 1 }]],
    [{ view: 'letters' }, [{ b: 'žluť, 💛', a: 4 }, { a: 1 }]],
];
for (const [options, expected] of cases) {
    const what = JSON.stringify(options);
    const page = await dataset.listItems(options);
    assert.deepEqual(page.items, expected, what);
    assert.deepEqual([page.total, page.offset, page.count], [4, options.offset ?? 0, expected.length], what);
    assert.equal(page.limit, options.limit || 999999999999, what);
    assert.equal(page.desc, options.desc ?? 'view' in options, what);
    assert.deepEqual(JSON.parse(await dataset.downloadItems('json', options)), expected, what);
    const address = await dataset.createItemsPublicUrl({ ...options, expiresInSecs: 60 });
    assert.ok(address.startsWith(url));
    assert.deepEqual(await (await fetch(address)).json(), expected, what);
}
assert.deepEqual(await all(dataset.listItems()), items);
assert.deepEqual(await all(dataset.listItems({ chunkSize: 1 })), items);
assert.deepEqual(await all(dataset.listItems({ chunkSize: 2, offset: 1, limit: 3 })), items.slice(1));
await refused(dataset.listItems({ view: 'none' }), 400, 'requested-dataset-view-does-not-exist');
await refused(client.dataset(absent).listItems(), 404, 'record-not-found');

// Downloads in every format with their options.
const text = async (format, options) => (await dataset.downloadItems(format, options)).toString();
assert.equal(await text('csv', { fields: ['a', 'b'] }), '\ufeffa,b\r\n1,\r\n,\r\n,\r\n4,"žluť, 💛"\r\n');
const csv = { fields: ['a', 'b'], skipEmpty: true, bom: false };
assert.equal(await text('csv', { ...csv, delimiter: ';' }), 'a;b\r\n1;\r\n4;žluť, 💛\r\n');
assert.equal(await text('csv', { ...csv, skipHeaderRow: true, limit: 1 }), '1,\r\n');
assert.equal(await text('jsonl', { fields: ['a'], skipEmpty: true }), '{"a":1}\n{"a":4}\n');
assert.match(await text('xml', { xmlRoot: 'rows', xmlRow: 'row', fields: ['a'], attachment: true }), /<rows>\s*<row>\s*<a>1</);
assert.match(await text('html', { fields: ['b'] }), /<th>b<\/th>/);
assert.match(await text('rss', { fields: ['b'] }), /<rss/);
assert.equal((await dataset.downloadItems('xlsx', {})).subarray(0, 2).toString(), 'PK');
assert.ok((await text('json', { bom: true })).startsWith('\ufeff['));

// Signatures, statistics.
const signature = new URL(await dataset.createItemsPublicUrl()).searchParams.get('signature');
const shared = anonymous.dataset(created.id);
assert.deepEqual((await shared.listItems({ signature })).items, items);
assert.deepEqual(JSON.parse(await shared.downloadItems('json', { signature })), items);
await refused(shared.listItems(), 403, 'insufficient-permissions');
await refused(shared.listItems({ signature: 'x' }), 403, 'insufficient-permissions');
assert.equal((await fetch(await dataset.createItemsPublicUrl({ expiresInSecs: -1 }))).status, 403);
assert.equal((await fetch(created.itemsPublicUrl)).status, 200);
const { fieldStatistics } = await dataset.getStatistics();
assert.deepEqual(fieldStatistics.a, { min: 1, max: 4, nullCount: 0, emptyCount: 2 });
assert.equal(await client.dataset(absent).getStatistics(), undefined);

// The run's dataset.
for (const [n, run] of runs.entries()) {
    const ofRun = run.dataset();
    await ofRun.pushItems([{ n }]);
    assert.equal((await ofRun.get()).itemCount, n + 1);
    assert.deepEqual((await ofRun.listItems({ desc: true, limit: 1 })).items, [{ n }]);
    assert.deepEqual(JSON.parse(await ofRun.downloadItems('json', { offset: n })), [{ n }]);
    assert.equal((await ofRun.update({ title: `T${n}` })).title, `T${n}`);
}
console.log('all calls answered as expected');

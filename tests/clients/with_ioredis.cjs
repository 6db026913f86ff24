// ioredis against a server: with_ioredis.cjs PORT PROTOCOL, where the protocol is 2, 3, or `default` for the client's own.
// Prints one line, or fails.
'use strict';
const assert = require('node:assert/strict');
const path = require('node:path');
const Redis = require(path.join(process.env.NODE_PATH, 'ioredis'));

const port = Number(process.argv[2]);
const protocol = process.argv[3];
const connect = (options = {}) =>
  new Redis({ port, ...(protocol === 'default' ? {} : { protocol: Number(protocol) }), ...options });

async function main() {
  const r = connect();
  await r.flushall();

  assert.equal(await r.set('s', 'value'), 'OK');
  assert.equal(await r.get('s'), 'value');
  assert.equal(await r.get('none'), null);
  assert.equal(await r.set('s', 'x', 'EX', 100, 'NX'), null);
  assert.equal(await r.set('s', 'x', 'PX', 100000, 'GET'), 'value');
  assert.ok((await r.pttl('s')) > 90000);
  assert.equal(await r.append('s', 'yz'), 3);
  assert.equal(await r.getrange('s', 1, -1), 'yz');
  assert.deepEqual(await r.getBuffer('s'), Buffer.from('xyz'));
  assert.equal(await r.incrby('n', 41), 41);
  assert.equal(await r.incr('n'), 42);
  assert.equal(await r.incrbyfloat('n', 0.5), '42.5');
  assert.equal(await r.mset(new Map([['a', '1'], ['b', '2']])), 'OK');
  assert.deepEqual(await r.mget('a', 'none', 'b'), ['1', null, '2']);
  assert.equal(await r.getdel('a'), '1');
  assert.equal(await r.lcs('s', 'b'), '');

  assert.equal(await r.setbit('bits', 9, 1), 0);
  assert.equal(await r.bitcount('bits'), 1);
  assert.equal(await r.bitpos('bits', 1), 9);
  assert.deepEqual(await r.bitfield('field', 'SET', 'u8', 0, 7, 'GET', 'u8', 0), [0, 7]);
  assert.equal(await r.bitop('NOT', 'inverse', 'bits'), 2);

  assert.equal(await r.expire('b', 100), 1);
  assert.equal(await r.persist('b'), 1);
  assert.equal(await r.type('b'), 'string');
  assert.equal(await r.rename('b', 'c'), 'OK');
  assert.equal(await r.copy('c', 'd'), 1);
  assert.equal(await r.exists('c', 'd', 'b'), 2);
  assert.equal(await r.object('ENCODING', 'c'), 'int');
  assert.equal(await r.del('c', 'd'), 2);

  // Pipelines, by hand and automatic.
  const pipeline = r.pipeline();
  for (let i = 0; i < 1000; i++) pipeline.set(`p:${i}`, i).get(`p:${i}`);
  const replies = await pipeline.exec();
  assert.equal(replies.length, 2000);
  assert.ok(replies.every(([error, value], i) => error === null && value === (i % 2 ? String((i - 1) / 2) : 'OK')));
  const automatic = connect({ enableAutoPipelining: true });
  const values = await Promise.all(Array.from({ length: 500 }, (_, i) => automatic.get(`p:${i}`)));
  assert.deepEqual(values, Array.from({ length: 500 }, (_, i) => String(i)));

  // SCAN as a stream.
  const seen = new Set();
  for await (const keys of r.scanStream({ match: 'p:*', count: 100 })) keys.forEach((key) => seen.add(key));
  assert.equal(seen.size, 1000);

  // Large values.
  const large = Buffer.alloc(20 << 20, 'haypile!');
  assert.equal(await r.set('large', large), 'OK');
  assert.ok(large.equals(await r.getBuffer('large')));
  assert.equal(await r.strlen('large'), large.length);

  // Errors.
  await assert.rejects(r.incr('s'), /ReplyError: ERR value is not an integer or out of range/);
  await assert.rejects(r.call('NOSUCH', 'x'), /ERR unknown command 'NOSUCH'/);

  // Connections.
  const named = connect({ db: 7, connectionName: 'from-node', keyPrefix: 'pre:' });
  await named.set('k', 'v');
  assert.equal(await named.client('GETNAME'), 'from-node');
  if (protocol !== 'default') assert.match(await named.client('INFO'), new RegExp(` resp=${protocol} `));
  assert.match(await named.client('INFO'), / db=7 .* lib-name=ioredis/s);
  assert.match(await r.client('LIST'), /name=from-node/);
  await r.select(7);
  assert.equal(await r.get('pre:k'), 'v');
  await r.select(0);
  assert.match(await r.info(), /redis_version:7\.4/);
  assert.ok((await r.command('COUNT')) > 50);
  assert.deepEqual(await r.config('GET', 'maxmemory-policy'), ['maxmemory-policy', 'noeviction']);
  assert.equal((await r.time()).length, 2);

  await r.config('SET', 'requirepass', 'secret');
  try {
    const closed = connect({ retryStrategy: null, maxRetriesPerRequest: 0 });
    closed.on('error', () => {});
    await assert.rejects(closed.get('s'), /NOAUTH/);
    closed.disconnect();
    const open = connect({ password: 'secret' });
    assert.equal(await open.get('s'), 'xyz');
    open.disconnect();
  } finally {
    await r.auth('secret');
    await r.config('SET', 'requirepass', '');
  }

  [r, automatic, named].forEach((client) => client.disconnect());
  console.log(`ioredis ${require(path.join(process.env.NODE_PATH, 'ioredis', 'package.json')).version} over RESP ${protocol}: as expected`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

import assert from 'node:assert/strict';
import test from 'node:test';
import { select } from './selection.js';

const worker = (hostname, gpu, slotsFree = 1, tag = 'available') => ({
  hostname, slotsFree, status: { tag }, tags: ['lab'], gpus: gpu ? [gpu] : [],
});
const order = (settings, workers) =>
  select({ settings }, {}, workers).choices.map((choice) => workers[choice.index].hostname);
const points = (key, val) => ({ key, value: { tag: 'integer', val } });

const room = [
  worker('small', { memoryMib: 8192n }, 2),
  worker('idle', { memoryMib: 24576n, memoryFreeMib: 20480n, utilization: 0 }),
  worker('hot', { memoryMib: 49152n, memoryFreeMib: 24576n, utilization: 1 }),
  worker('cpu', undefined, 3),
  worker('busy', { memoryMib: 81920n }, 0, 'busy'),
];

test('memory that is free and idle counts, and so do free slots', () => {
  assert.deepEqual(order([], room), ['idle', 'small', 'hot', 'cpu']);
  const { leftOut } = select({ settings: [] }, {}, room);
  assert.deepEqual(leftOut, [{ index: 4, reason: 'status: busy' }]);
});

test('settings give points by name', () => {
  assert.equal(order([points('cpu', 100n)], room)[0], 'cpu');
  assert.equal(order([points('idle', -20n)], room)[0], 'small');
  assert.equal(select({ settings: [points('lab', 7n)] }, {}, room).choices[0].score, 32);
});

test('a setting that makes no sense is named', () => {
  const settings = [{ key: 'cpu', value: { tag: 'text', val: 'many' } }];
  assert.throws(() => select({ settings }, {}, room), (said) => /`cpu`/.test(said));
});

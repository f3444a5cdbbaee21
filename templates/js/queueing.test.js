import assert from 'node:assert/strict';
import test from 'node:test';
import { order } from './queueing.js';

test('short jobs go first, and unknown ones last', () => {
  const waiting = [{}, { takesS: 600n }, { takesS: 90n }, { takesS: 600n }];
  const places = order({}, {}, [], waiting);
  assert.deepEqual(places.map((place) => place.index), [2, 1, 3, 0]);
  assert.equal(places[0].reason, 'takes 2 min');
});

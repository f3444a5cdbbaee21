import assert from 'node:assert/strict';
import test from 'node:test';
import { estimate } from './estimate.js';

test('it grows with the epochs, and there is none without them', () => {
  assert.equal(estimate({}, { epochs: 200 }).minutes, 100);
  assert.equal(estimate({}, {}), undefined);
});

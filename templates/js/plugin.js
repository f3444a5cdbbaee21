// What the plugin exports: one object for each question that it answers.
export * as compatibility from './compatibility.js';
export * as estimation from './estimate.js';
export * as queueing from './queueing.js';
export * as selection from './selection.js';

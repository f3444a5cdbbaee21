// What the plugin exports: one object for each question that it answers.
export * as selection from './selection.js';

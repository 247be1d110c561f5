// What the simulated provider does, how many jobs there are, and the cap on average, which a well-informed user would
// write down. Answers take one to three seconds, so that a run takes some tens of seconds.

const time = { uniform: [1, 3] };
// Bodies without numbers, as other providers than DeepSeek send them.
const rejection = { body: "deepseek" };

export const scenarios = {
  steady: {
    about: "a cap of 32",
    jobs: 300,
    average: 32,
    scenario: { cap: 32, rejection, service: { time } },
  },
  step: {
    about: "64 ↔ 16 every fifteen seconds",
    jobs: 600,
    average: 40,
    scenario: { cap: { steps: { points: [[0, 64], [15, 16]], repeat: 30 } }, rejection, service: { time } },
  },
  storm: {
    about: "five caps a minute, 503s, broken answers",
    jobs: 300,
    average: 25,
    // The command line's own.
    scenario: "storm",
  },
  scale: {
    about: "a cap of 500, 6,000 jobs",
    jobs: 6000,
    average: 500,
    scenario: { cap: 500, rejection, service: { time: { uniform: [0.5, 2.5] } } },
  },
  penalty: {
    about: "64, an excess costs three quarters for 8 s",
    jobs: 700,
    average: 64,
    scenario: { cap: 64, rejection, punish: { to: 0.25, seconds: 8 }, service: { time } },
  },
};

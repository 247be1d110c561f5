const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** `most` tasks at a time, as guides write it. */
export function limiter(most) {
  let active = 0;
  const queue = [];
  return async (task) => {
    if (active >= most) await new Promise((resolve) => queue.push(resolve));
    active += 1;
    try {
      return await task();
    } finally {
      active -= 1;
      queue.shift()?.();
    }
  };
}

/** What guides recommend for DeepSeek: a limiter, and within it a loop of retries around the `openai` package. */
export function recipe(openai, most, sleep = pause) {
  const limit = limiter(most);
  const retried = async (params) => {
    for (let attempt = 0; ; attempt++) {
      try {
        return await openai.chat.completions.create(params);
      } catch (error) {
        if (![429, 500, 502, 503, 504].includes(error.status) || attempt === 5) throw error;
        const seconds = error.headers?.["retry-after"];
        await sleep(seconds ? Number(seconds) * 1000 : Math.min(30_000, 500 * 2 ** attempt) + Math.random() * 750);
      }
    }
  };
  return (params) => limit(() => retried(params));
}

// `npm run mock`: serves the page with the mock gateway.
import { startMock } from "./gateway.mjs";

const mock = await startMock({ port: Number(process.env.PORT ?? 8766), base: process.env.BASE ?? "/" });
process.stdout.write(`${mock.url}\n`);

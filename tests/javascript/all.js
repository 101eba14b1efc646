// Runs every test of this folder: `npm test`, or by hand `node all.js`; `--test-name-pattern=WORD` picks some.
import './with_assets.js';
import './with_client.js';
import './with_dashboard.js';
import './with_demo.js';
import './with_demos.js';
import './with_npm.js';
import './with_origins.js';
import './with_refusals.js';
import './with_tls.js';
import './with_transports.js';
import './with_views.js';
import { run } from './scene.js';

run('all');

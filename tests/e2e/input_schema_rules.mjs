// What the stock validator of input schemas, the one apify-cli uses, says of schemas and inputs.
// Argument: folder whose node_modules holds it. Standard input: [[schema, [input, ...]], ...]; standard output:
// [[why the schema is refused or null, [messages of each input, ...]], ...].
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const load = createRequire(`${process.argv[2]}/`);
const Ajv2019 = load('ajv/dist/2019').default;
const Ajv = load('ajv').default;
const { validateInputSchema, validateInputUsingValidator } = load('@apify/input_schema');

function refusal(schema) {
    try {
        validateInputSchema(new Ajv2019({ strict: false, unicodeRegExp: false }), structuredClone(schema));
        return null;
    } catch (error) {
        return error.message;
    }
}

function messages(schema, inputs) {
    const compiled = structuredClone(schema);
    for (const name of compiled.required ?? []) {
        const field = compiled.properties[name];
        if (field?.type === 'array') field.minItems = Math.max(1, field.minItems ?? 1);
    }
    const validator = new Ajv({ strict: false, unicodeRegExp: false }).compile(compiled);
    return inputs.map((input) => validateInputUsingValidator(validator, schema, input).map(({ message }) => message));
}

const jobs = JSON.parse(readFileSync(0, 'utf-8'));
const answers = jobs.map(([schema, inputs]) => {
    const refused = refusal(schema);
    return [refused, refused === null ? messages(schema, inputs) : []];
});
console.log(JSON.stringify(answers));

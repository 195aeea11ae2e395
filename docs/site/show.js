SwaggerUIBundle({
  dom_id: "#description",
  spec: description,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  supportedSubmitMethods: [],
  validatorUrl: null,
});

const shown = SwaggerUIBundle({
  dom_id: "#description",
  spec: description,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  supportedSubmitMethods: [],
  validatorUrl: null,
});
// Opened from a disk: references within the description need an address of the web to begin from.
if (location.protocol === "file:") shown.specActions.updateUrl("http://localhost/openapi.json");

// Shows the document of the API that serves this page.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#document",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  // Nothing leaves this page for a server other than the API.
  validatorUrl: null,
});

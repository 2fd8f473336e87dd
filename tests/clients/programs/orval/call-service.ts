// How the generated calls are sent: to the service's address, with the key, and with dates made of what names a time.

const DATE_MEMBER = /(_at|_not_before|_not_after)$/;

export async function callService<T>(path: string, options: RequestInit): Promise<T> {
  const headers = { ...options.headers, "X-API-Key": process.env.NGT_KEY as string };
  const response = await fetch(`${process.env.NGT_URL}${path}`, { ...options, headers });
  const text = await response.text();
  const json = response.headers.get("Content-Type")?.includes("json");
  const withDates = (name: string, value: unknown) =>
    DATE_MEMBER.test(name) && typeof value === "string" ? new Date(value) : value;
  const data: unknown = json ? JSON.parse(text, withDates) : text;
  return { data, status: response.status, headers: response.headers } as T;
}

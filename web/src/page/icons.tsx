import type { ComponentChildren } from "preact";

function Icon({ children }: { children: ComponentChildren }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      {children}
    </svg>
  );
}

export const IconCopy = () => <Icon><rect x="7" y="7" width="9.5" height="9.5" rx="2" /><path d="M13 7V5.5a2 2 0 0 0-2-2H5.5a2 2 0 0 0-2 2V11a2 2 0 0 0 2 2H7" /></Icon>;
export const IconCheck = () => <Icon><path d="m4.5 10.5 3.5 3.5 7.5-8" /></Icon>;
export const IconSend = () => <Icon><path d="M10 16V4.5M5 9.200l5-5 5 5" /></Icon>;
export const IconStop = () => <svg class="icon" viewBox="0 0 20 20" aria-hidden="true"><rect x="5.5" y="5.5" width="9" height="9" rx="2" fill="currentColor" /></svg>;
export const IconMenu = () => <Icon><path d="M3.5 6h13M3.5 10h13M3.5 14h8" /></Icon>;
export const IconPlus = () => <Icon><path d="M10 4.5v11M4.5 10h11" /></Icon>;
export const IconClose = () => <Icon><path d="m5.5 5.5 9 9M14.5 5.5l-9 9" /></Icon>;
export const IconChevron = () => <Icon><path d="m7.5 5 5 5-5 5" /></Icon>;
export const IconDown = () => <Icon><path d="M10 4v11.5M5 10.800l5 5 5-5" /></Icon>;
export const IconHelp = () => <Icon><circle cx="10" cy="10" r="7" /><path d="M7.9 7.800a2.2 2.2 0 1 1 3.2 2c-.7.4-1.1.8-1.1 1.600M10 13.700v.1" /></Icon>;
export const IconMore = () => <svg class="icon" viewBox="0 0 20 20" fill="currentColor" aria-hidden="true"><circle cx="4.5" cy="10" r="1.5" /><circle cx="10" cy="10" r="1.5" /><circle cx="15.5" cy="10" r="1.5" /></svg>;
export const IconTarget = () => <Icon><circle cx="10" cy="10" r="7" /><circle cx="10" cy="10" r="3" /></Icon>;

/** The logo: two jacks of a telephone switchboard, connected by a cord. */
export const Mark = () => (
  <svg class="mark" viewBox="3 4 26 24" fill="none" aria-hidden="true">
    <path class="mark-cord" d="M9 21c0-9 14-1 14-10" stroke-width="2.5" stroke-linecap="round" />
    <circle class="mark-jack" cx="9" cy="22" r="3.5" stroke-width="2.5" />
    <circle class="mark-jack" cx="23" cy="10" r="3.5" stroke-width="2.5" />
  </svg>
);
